"""Folders of Parquet bars, whoever wrote them, become a panel on one time grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.skill.recorded import NoBarsError, recorded_panel

HOUR = 3_600_000


def _write(path: Path, hours: list[int], **columns: list[float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    price = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 5.0}
    values = {name: [value] * len(hours) for name, value in price.items()} | columns
    pl.DataFrame({"open_time": [HOUR * h for h in hours], **values}).write_parquet(path)


def test_symbols_share_a_grid_and_what_is_no_bar_is_left_out(tmp_path: Path) -> None:
    _write(tmp_path / "AAA_1h.parquet", [3, 1, 2, 2], close=[11.0, 11.0, 10.5, 11.5])
    _write(tmp_path / "B_C_1h.parquet", [2, 4, 5], low=[9.0, -1.0, 9.0])
    frame = pl.read_parquet(tmp_path / "AAA_1h.parquet")
    off = frame.head(1).with_columns(open_time=pl.lit(HOUR * 3 + 1, pl.Int64))
    pl.concat([frame, off]).write_parquet(tmp_path / "AAA_1h.parquet")
    panel = recorded_panel(tmp_path)
    assert panel.symbols == ("AAA", "B_C") and panel.interval == "1h"
    assert panel.open_time.tolist() == [HOUR * h for h in (1, 2, 3, 4, 5)]
    np.testing.assert_array_equal(
        panel.columns["close"].T, [[11, 11.5, 11, np.nan, np.nan], [np.nan, 11, np.nan, np.nan, 11]]
    )
    assert "trades" not in panel.columns


def test_the_series_can_be_chosen(tmp_path: Path) -> None:
    for symbol in ("AAA", "BBB", "CCC"):
        _write(tmp_path / "group" / f"{symbol}_1h.parquet", list(range(10)), trades=[1.0] * 10)
    _write(tmp_path / "other" / "AAA_1h.parquet", list(range(10)))
    panel = recorded_panel(
        tmp_path, interval="1h", symbols=("CCC", "AAA"), since_ms=2 * HOUR, until_ms=9 * HOUR, last=3
    )
    assert panel.symbols == ("CCC", "AAA") and "trades" in panel.columns
    assert panel.open_time.tolist() == [HOUR * h for h in (6, 7, 8)]
    assert panel.columns["close"].shape == (3, 2)


def test_what_is_lacking_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoBarsError, match=r"no file named <SYMBOL>_15m.parquet"):
        recorded_panel(tmp_path, interval="15m")
    _write(tmp_path / "AAA_1h.parquet", [1, 2])
    with pytest.raises(NoBarsError, match="no file of ZZZ"):
        recorded_panel(tmp_path, symbols=("ZZZ",))
    with pytest.raises(NoBarsError, match="no bar of 1h"):
        recorded_panel(tmp_path, since_ms=100 * HOUR)
    pl.read_parquet(tmp_path / "AAA_1h.parquet").drop("volume").write_parquet(tmp_path / "AAA_1h.parquet")
    with pytest.raises(NoBarsError, match="no column volume"):
        recorded_panel(tmp_path)


def test_a_careless_download_is_read(shared_data: Path) -> None:
    panel = recorded_panel(shared_data / "klines" / "binance_spot_dirty")
    assert panel.symbols == ("BTCUSDT",)
    assert set(np.diff(panel.open_time)) == {HOUR}
    assert np.isfinite(panel.columns["close"]).sum() > 28_000
