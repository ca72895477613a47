"""Real training runs of a tiny model: killed, stopped early, diverged, in mixed precision."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.config import ForecasterConfig, Normalisation
from training.data.dataset import TrainingSet
from training.errors import DivergedError, ForecasterError, TrainingSetError
from training.evaluate import forecast, keras_predict_fn
from training.fitting import fit
from training.fitting.checkpoint import CHECKPOINT_FILE, DIVERGED_FILE, load_checkpoint
from training.network.backend import keras, limit_threads
from training.network.forecaster_files import WEIGHTS_FILE, load_forecaster
from training.network.model import MAX_LOG_RATIO, build_model, quantile_mixing, training_heads
from training.progress import Progress

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras

REPOSITORY = Path(__file__).resolve().parents[2]

KILLED_CHILD = """
import os, signal, sys
from pathlib import Path
from training.fitting import fit, training_run
from training.data.dataset import TrainingSet
training_run.REPORT_SECONDS = 0.0
training_set = TrainingSet.load(Path(sys.argv[1]))
config = training_set.manifest.config
def die_in_the_second_epoch(progress):
    if progress.epoch == 2 and progress.step >= 3:
        os.kill(os.getpid(), signal.SIGKILL)
fit.train(training_set, config, Path(sys.argv[2]), die_in_the_second_epoch, threads=int(sys.argv[3]))
"""


STARTED_CHILD = """
from training.network.backend import available_cores, keras, limit_threads
keras.ops.convert_to_numpy(keras.ops.add([1.0], [2.0]))  # the thread pools are there now
print(limit_threads(), available_cores())
"""


def weights_of(workdir: Path) -> list[np.ndarray]:
    return [np.array(weight) for weight in load_forecaster(workdir)[0].get_weights()]


def test_a_run_killed_in_an_epoch_and_resumed_equals_one_that_was_not(
    built: TrainingSet, tiny: ForecasterConfig, tmp_path: Path
) -> None:
    workdir, seen = tmp_path / "killed", []
    threads = str(limit_threads())  # of this process: another test may have limited them
    command = [sys.executable, "-c", KILLED_CHILD, str(built.path), str(workdir), threads]
    child = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=200, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert (workdir / CHECKPOINT_FILE).is_file() and not (workdir / WEIGHTS_FILE).exists()

    resumed = fit.train(built, tiny, workdir, seen.append)
    straight = fit.train(built, tiny, tmp_path / "straight")
    assert {progress.epoch for progress in seen} == {2, 3}, "the first epoch is not repeated"
    assert all(map(np.array_equal, weights_of(workdir), weights_of(tmp_path / "straight")))
    losses = [(e.loss, e.validation_loss, e.learning_rate) for e in resumed.history]
    assert losses == [(e.loss, e.validation_loss, e.learning_rate) for e in straight.history]
    assert resumed.meta.calibration == straight.meta.calibration and straight.meta.calibration.rows > 100

    stamp = (workdir / WEIGHTS_FILE).stat().st_mtime_ns
    again = fit.train(built, tiny, workdir)
    assert again.meta == resumed.meta and (workdir / WEIGHTS_FILE).stat().st_mtime_ns == stamp, (
        "nothing left to do"
    )
    _refuses_damage(workdir)


def test_a_pool_started_before_a_number_was_named_counts_as_the_cores_it_has() -> None:
    """Else a run begun in such a process would not be the same run in the next."""
    child = subprocess.run(
        [sys.executable, "-c", STARTED_CHILD], cwd=REPOSITORY, capture_output=True, text=True, timeout=200
    )
    threads, cores = child.stdout.split()
    assert threads == cores


def _refuses_damage(workdir: Path) -> None:
    weights = (workdir / WEIGHTS_FILE).read_bytes()
    (workdir / WEIGHTS_FILE).write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(ForecasterError, match="SHA-256"):
        load_forecaster(workdir)
    (workdir / "forecaster.json").write_text("{}")
    with pytest.raises(ForecasterError, match="cannot be used"):
        load_forecaster(workdir)
    (workdir / CHECKPOINT_FILE).write_bytes(b"PK not a checkpoint")
    assert load_checkpoint(workdir, "any") is None


def test_early_stopping_keeps_the_best_epoch(
    built: TrainingSet, tiny: ForecasterConfig, tmp_path: Path
) -> None:
    """With a far too high rate the loss soon only gets worse."""
    config = tiny.model_copy(update={"epochs": 12, "patience": 1, "learning_rate": 0.3})
    trained = fit.train(built, config, tmp_path)
    losses = [epoch.validation_loss for epoch in trained.history]
    assert len(losses) < 12 and trained.meta.best_epoch == 1 + int(np.argmin(losses)) == len(losses) - 1


def test_a_loss_that_is_not_finite_is_told(
    built: TrainingSet, tiny: ForecasterConfig, tmp_path: Path
) -> None:
    broken = replace(built, log_return=np.full_like(built.log_return, np.inf))
    with pytest.raises(DivergedError, match="no longer finite"):
        fit.train(broken, tiny, tmp_path)
    with pytest.raises(TrainingSetError, match="horizon"):
        fit.train(built, tiny.model_copy(update={"horizon": 9}), tmp_path)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy on what has no end
def test_weights_beyond_all_bounds_have_diverged_too(
    built: TrainingSet, tiny: ForecasterConfig, tmp_path: Path
) -> None:
    """The loss is still finite, but nothing can be calibrated any more."""
    wild = tiny.model_copy(update={"learning_rate": 1e30, "epochs": 1})
    with pytest.raises(DivergedError, match="cannot be calibrated"):
        fit.train(built, wild, tmp_path)
    assert (tmp_path / DIVERGED_FILE).is_file() and not (tmp_path / WEIGHTS_FILE).exists()


def test_mixed_precision_with_xla_trains_and_loads_as_float32(
    built: TrainingSet, tiny: ForecasterConfig, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    config = tiny.model_copy(update={"precision": "mixed_float16", "jit_compile": True, "epochs": 1})
    trained = fit.train(built, config, tmp_path, seen.append)
    model, meta = load_forecaster(tmp_path)
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert (meta.config.precision, meta.config.jit_compile) == ("mixed_float16", True)
    assert seen[-1].validation_loss == trained.history[-1].validation_loss
    said = forecast(keras_predict_fn(model), built, "test")
    assert (
        np.allclose(said.direction.sum(axis=1), 1, atol=1e-5) and (np.diff(said.quantiles, axis=1) > 0).all()
    )


def test_outputs_are_what_the_text_says(tiny: ForecasterConfig) -> None:
    """Quantiles = scaled quantiles * raw volatility of the last bar * sqrt(h); at first those of a normal."""
    normalisation = Normalisation(mean=(1.0, 2.0, 0.001), std=(1.0, 2.0, 0.0005))
    keras.utils.set_random_seed(0)
    model = build_model(tiny, 3, normalisation, volatility_index=2)
    rng = np.random.default_rng(0)
    for name in ("direction_logits", "quantile_raw", "volatility_raw"):  # they begin at zero
        kernel = model.get_layer(name).kernel
        kernel.assign(rng.normal(0, 0.3, kernel.shape))
    windows = rng.normal(size=(5, tiny.window, 3)).astype(np.float32)
    windows[:, :, 2] = np.abs(windows[:, :, 2]) * 1e-3
    said = model.predict_on_batch(windows)
    scaled = training_heads(model).predict_on_batch(windows)["scaled_quantiles"]
    assert np.allclose(said["quantiles"], scaled * windows[:, -1, 2:3] * np.sqrt(3), rtol=1e-5)
    raw = keras.Model(model.input, model.get_layer("quantile_raw").output).predict_on_batch(windows)
    parts = np.concatenate([raw[:, :1], np.log1p(np.exp(raw[:, 1:]))], axis=1)
    assert np.allclose(scaled, parts @ quantile_mixing(3), atol=1e-5)
    known = windows[:, -1, 2:3] * np.sqrt(3)
    ratio = training_heads(model).predict_on_batch(windows)["log_volatility_ratio"]
    assert np.allclose(said["volatility"], known * np.exp(ratio), rtol=1e-5) and np.ptp(ratio) > 0.01
    model.get_layer("volatility_raw").bias.assign([1e6])
    assert np.allclose(
        model.predict_on_batch(windows)["volatility"], known * np.exp(MAX_LOG_RATIO), rtol=1e-5
    )
    fresh = build_model(tiny, 3, normalisation, volatility_index=2).predict_on_batch(windows)
    assert np.allclose(fresh["volatility"], known, rtol=1e-6), "it starts at the volatility known at t"
    head = model.get_layer("quantile_raw")
    head.kernel.assign(np.zeros(head.kernel.shape))
    untrained = training_heads(model).predict_on_batch(windows)["scaled_quantiles"]
    assert np.allclose(untrained, [[-1.2816, 0, 1.2816]], atol=1e-3)
    far = windows.copy()
    far[:, :, 0] = 1e9
    near = windows.copy()
    near[:, :, 0] = 9.0  # 8 standard deviations
    assert np.array_equal(model.predict_on_batch(far)["direction"], model.predict_on_batch(near)["direction"])


def test_importing_the_package_does_not_import_tensorflow() -> None:
    code = (
        "import sys, training.config, training.data.dataset, training.evaluate, training.network.forecaster_files;"
        "sys.exit(int(any(name in sys.modules for name in ('tensorflow', 'keras'))))"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=60).returncode == 0
    )
