"""The same model trained by Keras on JAX, where TensorFlow cannot be imported; its weights export the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.config import ForecasterConfig
from training.data.dataset import TrainingSet
from training.export.formats import ONNX, export
from training.export.reference_outputs import real_windows, store_reference
from training.network.forecaster_files import load_forecaster

pytest.importorskip("jax")
REPOSITORY = Path(__file__).resolve().parents[2]

CHILD = """
import json, sys
sys.modules["tensorflow"] = None  # as on a machine that has none
from pathlib import Path
import numpy as np
from training.fitting import fit
from training.data.training_set import TrainingSet
from training.network.forecaster_files import load_forecaster

data, out = TrainingSet.load(Path(sys.argv[1])), Path(sys.argv[2])
fit_config = data.manifest.config
class Stopped(Exception): ...
def stop(progress):
    if progress.epoch == 2:
        raise Stopped
try:
    fit.train(data, fit_config, out / "stopped", stop)
except Stopped:
    pass
epochs = []
fit.train(data, fit_config, out / "stopped", lambda progress: epochs.append(progress.epoch))
straight = fit.train(data, fit_config, out / "straight")
model, _ = load_forecaster(out / "stopped")
windows = np.load(sys.argv[3])
said = {name: np.asarray(array).tolist() for name, array in model.predict_on_batch(windows).items()}
same = all(map(np.array_equal, *(load_forecaster(out / n)[0].get_weights() for n in ("stopped", "straight"))))
print(json.dumps({"environment": straight.meta.environment, "epochs": epochs, "same": same, "said": said,
                  "validation": [e.validation_loss for e in straight.history]}))
"""


def test_a_model_trained_on_jax_is_loaded_and_exported_by_tensorflow(
    built: TrainingSet, tiny: ForecasterConfig, tmp_path: Path
) -> None:
    windows = real_windows(built, 64)
    np.save(tmp_path / "windows.npy", windows)
    command = [sys.executable, "-c", CHILD, str(built.path), str(tmp_path), str(tmp_path / "windows.npy")]
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = {**os.environ, **cache, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["environment"]["backend"] == "jax" and told["environment"]["xla"] == "true"
    assert set(told["epochs"]) == {2, 3} and told["same"], "resumed to the same weights, bit for bit"
    assert told["validation"][-1] < told["validation"][0], "it learned"

    model, meta = load_forecaster(tmp_path / "stopped")  # TensorFlow, in this process
    for name, array in model.predict_on_batch(windows).items():
        assert np.allclose(array, told["said"][name], rtol=1e-4, atol=1e-5), name
    store_reference(model, meta, windows, tmp_path / "stopped")
    exported = export(ONNX, tmp_path / "stopped", tmp_path, windows)
    assert all(report.passed for report in exported.reports.values()) and exported.files
