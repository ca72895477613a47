"""Predict with the integer file of a bundle under LiteRT: python consume_model_int8.py BUNDLE FEATURES.npz."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

bundle = Path(sys.argv[1])
manifest = json.loads((bundle / "manifest.json").read_bytes())
for name, entry in manifest["files"].items():
    if hashlib.sha256((bundle / name).read_bytes()).hexdigest() != entry["sha256"]:
        sys.exit(f"{name} is not the file that was published: fetch the bundle again")
facts = manifest["parity"]["model.int8.tflite"]["int8"]
raw = np.load(sys.argv[2], allow_pickle=False)  # one array (batch, window) per feature
window = np.stack([raw[name] for name in manifest["feature_names"]], axis=-1)
interpreter = Interpreter(str(bundle / "model.int8.tflite"))
interpreter.allocate_tensors()
run = interpreter.get_signature_runner()
for x in window:
    if not np.isfinite(x).all():  # integers know no NaN: there is no answer for a window that is not complete
        print("no answer")
        continue
    integers = np.clip(np.round((x - facts["mean"]) / facts["step"]) + facts["zero_point"], -128, 127)
    interpreter.reset_all_variables()  # its LSTM would go on from the window before
    given = run(window=integers[None].astype(np.int8))
    value = {
        n: o["scale"] * (given[n][0].astype(float) - o["zero_point"]) for n, o in facts["outputs"].items()
    }
    unit = x[-1, facts["volatility_index"]] * facts["volatility_factor"]
    print(
        *(f"{share:.6f}" for share in value["direction"]),
        *(f"{q * unit:+.6f}" for q in value["quantiles"]),
        end=" ",
    )
    print(f"{value['volatility'][0] * unit:.6f}")
