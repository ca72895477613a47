"""Real training runs of a tiny model. One module, because importing TensorFlow is what takes the time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.config import Calibration, ForecasterConfig, Normalisation
from training.data.dataset import TrainingSet, build_training_set
from training.errors import DivergedError, ForecasterError, TrainingSetError
from training.evaluate import evaluate, forecast, keras_predict_fn, skill_against_best
from training.fitting import fit
from training.fitting.checkpoint import CHECKPOINT_FILE, DIVERGED_FILE, load_checkpoint
from training.fitting.warm_start import seen_of_test, unseen_validation
from training.network.backend import keras, limit_threads
from training.network.calibration import fit_calibration
from training.network.forecaster_files import (
    META_FILE,
    WEIGHTS_FILE,
    ForecasterMeta,
    InitialForecaster,
    load_forecaster,
    load_meta,
)
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


@pytest.fixture(scope="module")
def strong(planted: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, TrainingSet]:
    """A market whose drift can be seen, and its training set."""
    config = ForecasterConfig(
        window=8, horizon=3, width=16, heads=2, blocks=1, lstm_units=16, ff=16, hidden=16, epochs=4,
        batch_size=128, learning_rate=4e-3, max_windows=6000,
    )  # fmt: skip
    market = planted(3000, 4, strength=0.35)
    folder = tmp_path_factory.mktemp("planted") / "set"
    return market, build_training_set(market.block, market.close, "5m", config, folder)


@pytest.fixture(scope="module")
def seeing(strong: tuple[Any, TrainingSet], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A forecaster that was trained on it."""
    folder = tmp_path_factory.mktemp("seeing")
    fit.train(strong[1], strong[1].manifest.config, folder)
    return folder


def judged(training_set: TrainingSet, market: Any, workdir: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    model, _ = load_forecaster(workdir)
    said = forecast(keras_predict_fn(model), training_set, "test")
    rows = training_set.rows["test"]
    best = market.p_up[rows[:, 0], rows[:, 1]]
    returns = training_set.outcomes(rows).log_return
    skill = skill_against_best(said.direction[:, 2] - said.direction[:, 0], best, returns)
    return evaluate(said, training_set, "test"), skill


def test_training_finds_the_planted_signal(strong: tuple[Any, TrainingSet], seeing: Path) -> None:
    market, training_set = strong
    metrics, skill = judged(training_set, market, seeing)
    model, rate = metrics["model"], metrics["base_rate"]
    assert 0.6 < skill["auc_best"] < 0.75 and skill["share_of_auc"] > 0.8, skill
    assert model["auc_sign_interval"][0] > 0.55 > 0.5 == rate["auc_sign"]
    assert model["log_loss"] < rate["log_loss"] and model["brier"] < rate["brier"]
    assert model["pinball"] < rate["pinball"] and abs(model["coverage"] - 0.8) < 0.06
    assert model["balanced_accuracy"] > 1 / 3 + 0.03 > metrics["always_flat"]["balanced_accuracy"]


def test_shuffled_labels_teach_nothing(strong: tuple[Any, TrainingSet], tmp_path: Path) -> None:
    """The same features with the labels of other rows: skill on the true test labels would be a leak."""
    market, training_set = strong
    rows = np.concatenate([training_set.rows["train"], training_set.rows["validation"]])
    mixed = np.random.default_rng(5).permutation(rows)
    arrays = {name: getattr(training_set, name).copy() for name in ("direction", "log_return", "volatility")}
    for name, array in arrays.items():
        array[rows[:, 0], rows[:, 1]] = getattr(training_set, name)[mixed[:, 0], mixed[:, 1]]
    manifest = training_set.manifest.model_copy(update={"training_set_id": "shuffled"})
    mixed_set = replace(training_set, manifest=manifest, **arrays)
    fit.train(mixed_set, manifest.config, tmp_path)
    _, skill = judged(mixed_set, market, tmp_path)
    assert abs(skill["auc"] - 0.5) < 0.06 < skill["auc_best"] - 0.5, skill


def test_the_temperature_takes_back_overconfidence_on_rows_not_seen(
    strong: tuple[Any, TrainingSet], seeing: Path
) -> None:
    """Logits four times as large: the calibration finds it in the validation split, and it holds in the test split."""
    _, data = strong
    trained, meta = load_forecaster(seeing)

    def sure(calibration: Calibration | None) -> Any:
        model = build_model(
            meta.config,
            len(meta.feature_names),
            meta.normalisation,
            volatility_index=meta.volatility_index,
            calibration=calibration,
        )
        model.set_weights(trained.get_weights())
        head = model.get_layer("direction_logits")
        head.set_weights([4 * weight for weight in head.get_weights()])
        return model

    rows = data.rows["validation"]
    said = training_heads(sure(None)).predict_on_batch(data.windows(rows))
    came = data.outcomes(rows)
    found = fit_calibration(
        np.asarray(said["direction_logits"]),
        np.asarray(said["scaled_quantiles"]),
        np.exp(np.asarray(said["log_volatility_ratio"])[:, 0]) * came.volatility,
        direction=came.direction,
        scaled_return=came.scaled,
        realised_volatility=came.realised_volatility,
        levels=meta.config.quantiles,
    )
    assert found.temperature == pytest.approx(4 * meta.calibration.temperature, rel=0.01)
    loss = {
        name: evaluate(keras_predict_fn(sure(calibration)), data, "test", draws=1)["model"]["log_loss"]
        for name, calibration in (("sure", None), ("calibrated", found))
    }
    assert loss["calibrated"] < loss["sure"] - 0.1, loss


def test_the_calibration_is_what_the_text_says(strong: tuple[Any, TrainingSet], seeing: Path) -> None:
    """Outputs of the loaded model, from those of one without calibration and the figures in the description."""
    _, data = strong
    calibrated, meta = load_forecaster(seeing)
    plain = build_model(
        meta.config, len(meta.feature_names), meta.normalisation, volatility_index=meta.volatility_index
    )
    plain.set_weights(calibrated.get_weights())
    windows = data.windows(data.rows["test"][:200])
    found, raw = (
        {name: np.asarray(answer) for name, answer in model.predict_on_batch(windows).items()}
        for model in (calibrated, plain)
    )
    tempered = raw["direction"] ** (1 / meta.calibration.temperature)
    assert meta.calibration.rows == len(data.rows["validation"]) and meta.calibration.temperature != 1
    assert np.allclose(found["direction"], tempered / tempered.sum(axis=1, keepdims=True), atol=1e-5)
    middle, low, high = raw["quantiles"][:, 1], *np.diff(raw["quantiles"], axis=1).T
    below, above = meta.calibration.step_scales
    expected = np.stack([middle - below * low, middle, middle + above * high], axis=1)
    assert np.allclose(found["quantiles"], expected, rtol=1e-4, atol=1e-7)
    assert np.allclose(found["volatility"], meta.calibration.volatility_factor * raw["volatility"], rtol=1e-5)


def test_training_can_begin_with_another_forecaster_and_says_so(
    strong: tuple[Any, TrainingSet], seeing: Path, built: TrainingSet, tiny: ForecasterConfig, tmp_path: Path
) -> None:
    _, data = strong
    barely = {"epochs": 1, "learning_rate": 1e-9, "seed": 5, "calibrate": False, "batch_size": 1000}
    config = data.manifest.config.model_copy(update=barely)
    trained = fit.train(data, config, tmp_path / "run", initial=seeing)
    (first, first_meta), (model, meta) = load_forecaster(seeing), load_forecaster(trained.path)
    assert meta.initial is not None and meta.calibration == Calibration() and first_meta.initial is None
    assert meta.initial.weights_sha256 == first_meta.weights_sha256 != meta.weights_sha256
    assert meta.initial.run_id == first_meta.run_id
    for name in ("head_hidden", "volatility_raw", "lstm"):
        for early, late in zip(
            first.get_layer(name).get_weights(), model.get_layer(name).get_weights(), strict=True
        ):
            assert np.abs(early - late).max() < 1e-5 < np.abs(early).max(), "it began where the other ended"
    assert meta.run_id != fit.run_id_of(data, config, meta.environment, None), "not a run from random weights"
    with pytest.raises(ForecasterError, match=r"width 16, not 8; .*hidden 16, not 8"):
        fit.train(built, tiny, tmp_path / "other", initial=seeing)
    renamed = data.manifest.model_copy(update={"feature_names": (*data.feature_names[:-1], "rsi_14")})
    with pytest.raises(ForecasterError, match="without rsi_14 and with noise_2"):
        fit.train(replace(data, manifest=renamed), config, tmp_path / "other", initial=seeing)
    with pytest.raises(ForecasterError, match="no trained forecaster"):
        fit.train(built, tiny, tmp_path / "other", initial=tmp_path / "nowhere")
    assert not (tmp_path / "other").exists(), "nothing was begun"


def with_meta(forecaster: Path, folder: Path, **changed: Any) -> ForecasterMeta:
    """Copy a forecaster, with another description."""
    shutil.copytree(forecaster, folder)
    meta = load_meta(forecaster).model_copy(update=changed)
    (folder / META_FILE).write_text(meta.model_dump_json())
    return meta


def test_a_warm_start_must_not_have_seen_the_test_split(
    strong: tuple[Any, TrainingSet], seeing: Path, tmp_path: Path
) -> None:
    """Splits are shares of time: with other bars, the test split may lie where a forecaster was fitted before."""
    market, data = strong
    config, block = data.manifest.config, market.block
    part = replace(block, values=block.values[:, :2000], open_time=block.open_time[:2000])
    earlier = build_training_set(part, market.close[:2000], "5m", config, tmp_path / "earlier")
    with pytest.raises(ForecasterError, match=r"fitted or tuned on bars until .* test split begins"):
        fit.train(earlier, config, tmp_path / "run", initial=seeing)

    test = data.manifest.spans["test"].first_open_time
    told = {"weights_sha256": "a", "run_id": "b", "training_set_id": "c"}
    embargo = config.horizon * 300_000
    for until, allowed in ((None, False), (test - embargo, False), (test - embargo - 1, True)):
        folder = tmp_path / f"from-{until}"
        meta = with_meta(seeing, folder, initial=InitialForecaster(**told, seen_until=until))
        assert (seen_of_test(folder, data) is None) == allowed, (
            "what the one before it has seen counts as well"
        )
        assert until is None or meta.seen_until == until


def test_a_warm_start_goes_by_validation_rows_that_the_weights_have_not_seen(
    strong: tuple[Any, TrainingSet], seeing: Path, tmp_path: Path
) -> None:
    _, data = strong
    config = data.manifest.config.model_copy(update={"epochs": 1, "batch_size": 1000})
    times, spans = data.times("validation"), load_meta(seeing).spans
    until = int(np.median(times))
    ended = spans["validation"].model_copy(update={"last_label_time": until})
    with_meta(seeing, tmp_path / "parent", spans=spans | {"validation": ended})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / DIVERGED_FILE).touch()
    trained = fit.train(data, config, tmp_path / "run", initial=tmp_path / "parent")
    assert not (tmp_path / "run" / DIVERGED_FILE).exists(), "that was another run"
    unseen = int((times > until + config.horizon * 300_000).sum())
    assert 100 <= unseen < len(times) / 2
    assert trained.meta.calibration.rows == unseen
    assert trained.meta.initial is not None and trained.meta.initial.unseen_validation_rows == unseen
    assert trained.meta.initial.seen_until == until
    few = ended.model_copy(update={"last_label_time": int(times[-1]) - 50 * 300_000})
    assert (
        unseen_validation(load_meta(seeing).model_copy(update={"spans": {**spans, "validation": few}}), data)
        is None
    )


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
