"""On real bars, the newest bar's features tell the coming volatility better than HAR's three past volatilities do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.skill.measure import training_set_of
from benchmarks.skill.recorded import recorded_panel
from training.baselines.har import har_log
from training.baselines.lagged import lagged_features
from training.config import ForecasterConfig
from training.data.training_set import TrainingSet

BARS = 12_000


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> TrainingSet:
    folder = shared_data / "klines" / "binance_um_recent"
    panel = recorded_panel(folder, interval="30m", symbols=("BTCUSDT", "SOLUSDT"), last=BARS)
    return training_set_of(panel, ForecasterConfig(), tmp_path_factory.mktemp("recorded") / "set")


def log_error(data: TrainingSet, columns: list[int]) -> float:
    """Mean squared error of log volatility on the test split, of least squares on features of the newest bar."""
    tables, targets = {}, {}
    for split in ("train", "test"):
        rows = data.rows[split]
        newest = lagged_features(data, rows)[:, : len(data.feature_names)][:, columns]
        ratio = data.outcomes(rows).log_volatility_ratio.astype(np.float64)
        tables[split] = np.column_stack([np.ones(len(rows)), newest])[np.isfinite(ratio)]
        targets[split] = ratio[np.isfinite(ratio)]
    weights = np.linalg.lstsq(tables["train"], targets["train"], rcond=None)[0]
    return float(((targets["test"] - tables["test"] @ weights) ** 2).mean())


def test_the_features_know_more_than_har(recorded: TrainingSet) -> None:
    names = recorded.feature_names
    every = list(range(len(names)))
    plain = [i for i in every if not names[i].startswith(("log_realised", "log_parkinson", "hour_"))]
    rows = recorded.rows["test"]
    came = recorded.outcomes(rows).realised_volatility.astype(np.float64)
    said = har_log(recorded, seed=1)(rows).volatility
    assert said is not None
    known = np.isfinite(came)
    of_har = float(np.log(came / said)[known].var())  # without its bias: the level is a matter of calibration
    with_all, without = log_error(recorded, every), log_error(recorded, plain)
    assert with_all < 0.93 * of_har
    assert with_all < 0.97 * without, "logarithms and the time of day tell what the others do not"
