"""Folders of Parquet bars, whoever wrote them, become a panel on one time grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.skill.__main__ import main
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


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(
            (name, value)
            for name in ("open", "close", "volume")
            for value in (None, float("nan"), float("inf"))
        ),
        ("close", 0.0),
        ("open", -1.0),
        ("volume", -1.0),
        ("high", 1.0),
    ],
)
def test_an_odd_row_costs_its_own_bar_alone(tmp_path: Path, column: str, value: float | None) -> None:
    usual = {"open": 10.0, "high": 12.0, "close": 11.0, "volume": 5.0}[column]
    _write(tmp_path / "AAA_1h.parquet", list(range(100)), **{column: [*[usual] * 50, value, *[usual] * 49]})
    panel = recorded_panel(tmp_path)
    for values in panel.columns.values():
        assert np.flatnonzero(~np.isfinite(values[:, 0])).tolist() == [50], (
            "a bar is there whole or not at all"
        )


def test_an_odd_value_of_a_further_column_costs_that_alone(tmp_path: Path) -> None:
    trades = [1.0, None, -1.0, float("inf"), 2.0]
    _write(tmp_path / "AAA_1h.parquet", list(range(5)), trades=trades)
    panel = recorded_panel(tmp_path)
    np.testing.assert_array_equal(panel.columns["trades"][:, 0], [1, np.nan, np.nan, np.nan, 2])
    assert np.isfinite(panel.columns["close"]).all()


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_open_times_may_be_dates(tmp_path: Path, unit: str) -> None:
    _write(tmp_path / "AAA_1h.parquet", [1, 2, 3])
    frame = pl.read_parquet(tmp_path / "AAA_1h.parquet")
    time = pl.from_epoch("open_time", "ms").dt.cast_time_unit(unit).dt.replace_time_zone("UTC")
    frame.with_columns(time).write_parquet(tmp_path / "AAA_1h.parquet")
    assert recorded_panel(tmp_path).open_time.tolist() == [HOUR, 2 * HOUR, 3 * HOUR]


def test_weeks_begin_on_monday_and_other_files_are_passed_over(tmp_path: Path) -> None:
    mondays = [(4 + 7 * week) * 24 for week in range(9)]
    _write(tmp_path / "AAA_1w.parquet", mondays)
    for symbol in ("AAA", "BBB"):
        _write(tmp_path / f"{symbol}_2020-01-01.parquet", [1, 2])
    panel = recorded_panel(tmp_path)
    assert (panel.interval, panel.symbols) == ("1w", ("AAA",))
    assert panel.open_time.tolist() == [HOUR * hour for hour in mondays]


def test_the_command_says_in_one_line_what_cannot_be_read(tmp_path: Path, capsys) -> None:
    (tmp_path / "AAA_1h.parquet").write_bytes(b"no Parquet")
    for damage in (None, {"open_time": ["yesterday"]}, {"close": ["much"]}):
        if damage is not None:
            _write(tmp_path / "AAA_1h.parquet", [1])
            frame = pl.read_parquet(tmp_path / "AAA_1h.parquet")
            frame.with_columns(**{k: pl.Series(v) for k, v in damage.items()}).write_parquet(
                tmp_path / "AAA_1h.parquet"
            )
        assert main(["--data", str(tmp_path)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "AAA_1h.parquet" in said


def test_a_careless_download_is_read(shared_data: Path) -> None:
    panel = recorded_panel(shared_data / "klines" / "binance_spot_dirty")
    assert panel.symbols == ("BTCUSDT",)
    assert set(np.diff(panel.open_time)) == {HOUR}
    assert np.isfinite(panel.columns["close"]).sum() > 28_000
