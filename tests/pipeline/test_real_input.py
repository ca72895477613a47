"""The pipeline on recorded bars of 12 symbols, replayed: the store equals the source, and predictions come out."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.real_input import run_pipeline
from tests.pipeline.conftest import SMALL_TRAINING


@pytest.mark.timeout(900)  # every stage of the pipeline, on whatever else the machine leaves
def test_real_bars_from_replay_to_predictions(shared_data: Path, home: Path) -> None:
    folder = shared_data / "klines" / "binance_um_recent"
    outcome = run_pipeline(folder, "15m", home, training=SMALL_TRAINING)
    assert outcome["symbols"] == 12
    assert 0 < outcome["bars_after_first_step"] < outcome["bars_after_second_step"]
    assert outcome["bars_in_all"] == 12 * 35_039
    assert outcome["flags"] > 0
    assert outcome["metrics"]["against_best"] is None, "nobody knows the best possible on a real market"
    assert 0.45 < outcome["metrics"]["model"]["auc_sign"] < 0.60, "much more would be a leak"
    assert len({row["symbol"] for row in outcome["predictions"]}) == 12
    assert all(
        parity["max_abs_difference"]["direction"] < 1e-5
        for name, parity in outcome["parity"].items()
        if name in ("model.onnx", "model.tflite")
    )
