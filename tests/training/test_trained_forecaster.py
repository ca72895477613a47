"""A forecaster trained on a market with a planted signal: what it learned, its calibration, and starts from it.

One module, because training it is what takes the time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.config import Calibration, ForecasterConfig
from training.data.dataset import TrainingSet, build_training_set
from training.errors import ForecasterError
from training.evaluate import evaluate, forecast, keras_predict_fn, skill_against_best
from training.fitting import fit
from training.fitting.checkpoint import DIVERGED_FILE
from training.fitting.warm_start import seen_of_test, unseen_validation
from training.network.calibration import fit_calibration
from training.network.forecaster_files import (
    META_FILE,
    ForecasterMeta,
    InitialForecaster,
    load_forecaster,
    load_meta,
)
from training.network.model import build_model, training_heads

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras


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
