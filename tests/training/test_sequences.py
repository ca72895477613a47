"""Every bar a target: targets are those of the rows themselves, no bar sees a later one, and the export keeps to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.config import ForecasterConfig, Normalisation
from training.data.dataset import TrainingSet
from training.export.inference_graph import inference_function
from training.export.reference_outputs import real_windows
from training.fitting import fit
from training.network.forecaster_files import load_forecaster
from training.network.losses import losses
from training.network.model import build_model, training_heads
from training.network.sequences import FUTURE, causal_mask, every_bar_targets, only_last_bar_targets

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras

HEADS = ("direction_logits", "scaled_quantiles", "log_volatility_ratio")


@pytest.fixture
def every(tiny: ForecasterConfig) -> ForecasterConfig:
    return tiny.model_copy(update={"targets": "every", "blocks": 2, "epochs": 2, "learning_rate": 1e-2})


def test_targets_of_all_bars_are_those_of_their_own_rows(built: TrainingSet) -> None:
    rows, window = built.rows["train"], built.manifest.config.window
    batch = built.batch("train", np.r_[0, 5 : len(rows) : 50])
    found = every_bar_targets(built, batch)
    own = {tuple(row) for row in rows.tolist()}
    seen = 0
    for k, (t, s) in enumerate(batch.rows):
        for j in range(window):
            at = (int(t) - window + 1 + j, int(s))
            if at not in own:  # not a row of the split, though it may well have a target
                continue
            outcomes = built.outcomes(np.array([at]))
            assert found["direction_logits"][k, j] == outcomes.direction[0]
            assert found["scaled_quantiles"][k, j, 0] == outcomes.scaled[0]
            assert found["log_volatility_ratio"][k, j, 0] == outcomes.log_volatility_ratio[0]
            seen += 1
    assert seen > 2 * window
    before = batch.rows[:1] - [window, 0]
    assert before[0, 0] + window == rows[0, 0], "the first row of the split"
    assert (found["direction_logits"][0, :-1] == -1).all(), "bars before the split have no target"
    judged = only_last_bar_targets(built, batch)
    assert (judged["direction_logits"][:, :-1] == -1).all()
    for name in HEADS:
        assert np.array_equal(judged[name][:, -1], found[name][:, -1], equal_nan=True)


def test_the_loss_is_the_mean_over_the_bars_that_have_a_target(tiny: ForecasterConfig) -> None:
    one, all_bars = losses(tiny), losses(tiny.model_copy(update={"targets": "every"}))
    rng = np.random.default_rng(0)
    known = rng.random((6, 8)) < 0.4
    direction, said = rng.integers(0, 3, (6, 8)), rng.normal(size=(6, 8, 3)).astype(np.float32)
    scaled, ratio = rng.normal(size=(2, 6, 8, 1)).astype(np.float32)
    outcomes = {"direction_logits": direction, "scaled_quantiles": scaled, "log_volatility_ratio": ratio}
    for name, outcome in outcomes.items():
        answers = said[..., :1] if name == "log_volatility_ratio" else said
        gone = -1 if name == "direction_logits" else np.nan
        mask = known if outcome.ndim == 2 else known[..., None]
        expected = np.mean(one[name](outcome[known], answers[known]))
        found = np.mean(all_bars[name](np.where(mask, outcome, gone).astype(np.float32), answers))
        assert found == pytest.approx(float(expected), rel=1e-5), name
        nothing = all_bars[name](np.full_like(outcome, gone, np.float32), answers)
        assert np.mean(nothing) == 0


def test_no_bar_sees_a_later_one_after_training(
    built: TrainingSet, every: ForecasterConfig, tmp_path: Path
) -> None:
    """Other later bars, the same answers; without the mask they would be others."""
    fit.train(built, every, tmp_path)
    model, meta = load_forecaster(tmp_path)
    windows = real_windows(built, 64)
    changed = windows.copy()
    changed[:, 5:] = windows[::-1, 5:] * 1.5
    heads = training_heads(model)
    first, second = (heads.predict_on_batch(given) for given in (windows, changed))
    for name in HEADS:
        assert first[name].shape[:2] == (64, every.window)
        assert np.abs(first[name][:, :5] - second[name][:, :5]).max() < 1e-6, name
        assert np.abs(first[name][:, 5:] - second[name][:, 5:]).max() > 1e-3, name
    said, exported = model.predict_on_batch(windows), inference_function(model, meta, "while")(windows)
    for name, array in said.items():
        assert np.allclose(exported[name], array, atol=1e-5, rtol=1e-4), name
    assert np.array_equal(said["direction"].argmax(1), first["direction_logits"][:, -1].argmax(1))
    everything = meta.model_copy(update={"config": meta.config.model_copy(update={"targets": "last"})})
    unmasked = inference_function(model, everything, "while")(windows)
    assert np.abs(unmasked["direction"] - said["direction"]).max() > 1e-4, "the graph needs its mask"


def test_bfloat16_with_xla_takes_a_step(every: ForecasterConfig) -> None:
    config = every.model_copy(update={"blocks": 1, "window": 4})
    normalisation = Normalisation(mean=(0.0, 0.0), std=(1.0, 1.0))
    model = build_model(config, 2, normalisation, volatility_index=1, precision="mixed_bfloat16")
    network = training_heads(model)
    network.compile("adam", losses(config), jit_compile=True)
    rng = np.random.default_rng(0)
    targets = {name: rng.random((8, 4, 1)).astype(np.float32) for name in HEADS[1:]}
    targets["direction_logits"] = rng.integers(0, 3, (8, 4))
    before = [np.array(weight) for weight in network.trainable_weights]
    loss = network.train_on_batch(rng.random((8, 4, 2)).astype(np.float32), targets, return_dict=True)
    assert network.jit_compile and np.isfinite(loss["loss"])
    assert {weight.dtype for weight in network.weights} <= {"float32", "uint32", "int32"}
    assert model.get_layer("block0_attention").compute_dtype == "bfloat16"
    assert not all(map(np.array_equal, before, network.trainable_weights))


def test_the_mask() -> None:
    assert np.array_equal(causal_mask(3), [[0, FUTURE, FUTURE], [0, 0, FUTURE], [0, 0, 0]])
    assert FUTURE == -20
