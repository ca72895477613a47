"""Predict with a klinecast model bundle: python consume_model.py BUNDLE FEATURES.npz [FILE]."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

bundle = Path(sys.argv[1])
manifest = json.loads((bundle / "manifest.json").read_bytes())
for name, entry in manifest["files"].items():
    if hashlib.sha256((bundle / name).read_bytes()).hexdigest() != entry["sha256"]:
        sys.exit(f"{name} is not the file that was published: fetch the bundle again")
raw = np.load(sys.argv[2], allow_pickle=False)  # one array (batch, window) per feature
window = np.stack([raw[name] for name in manifest["feature_names"]], axis=-1).astype(np.float32)
file = sys.argv[3] if len(sys.argv) > 3 else "model.onnx"
session = onnxruntime.InferenceSession(bundle / file, providers=["CPUExecutionProvider"])
direction, quantiles, volatility = session.run(["direction", "quantiles", "volatility"], {"window": window})
for p, q, v in zip(direction, quantiles, volatility, strict=True):  # all NaN where a window is not complete
    print(*(f"{name} {share:.6f}" for name, share in zip(manifest["classes"], p, strict=True)), end="  ")
    print(
        *(f"q{level:g} {value:+.6f}" for level, value in zip(manifest["quantiles"], q, strict=True)), end="  "
    )
    print(f"volatility {v[0]:.6f}")
