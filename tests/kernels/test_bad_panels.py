"""Bad input is refused, with its place."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from kernels.compute import _output, compute
from kernels.engine import BarJob
from kernels.errors import BadPanel, KernelError, RevisedBar, StateMismatch, UnknownFeature
from kernels.sample import SamplePanel, sample_panel
from kernels.streaming import Stream

NAMES = ("ema_9", "taker_imbalance")


@pytest.fixture
def panel() -> SamplePanel:
    return sample_panel(120, 11, seed=5)


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [("volume", -1.0, "negative volume"), ("high", 1e-9, "high < low"), ("close", np.inf, "infinite"),
     ("low", -3.0, "not positive"), ("close", np.nan, "are missing"), ("taker_buy_base", -1.0, "taker_buy_base"),
     ("open", 0.0, "not positive"), ("volume", np.inf, "infinite")],
)  # fmt: skip
@pytest.mark.parametrize("row", [0, 63, 119])
def test_a_bad_bar_is_named(panel, column, value, told, row):
    panel.columns[column][row, 9] = value
    with pytest.raises(BadPanel, match=told) as caught:
        compute(panel, NAMES)
    assert "SYM0009" in caught.value.where
    assert f"row {row}" in caught.value.where
    assert str(int(panel.open_time[row])) in caught.value.where


def test_wrong_arrays_are_named(panel):
    def refused(told: str, **change: object) -> None:
        with pytest.raises(BadPanel, match=told):
            compute(replace(panel, **change), NAMES)

    columns = panel.columns
    refused("'high' is not float64", columns={**columns, "high": columns["high"].astype(np.float32)})
    refused("'high' is not of shape", columns={**columns, "high": columns["high"][:-1]})
    refused("'high' is not C-contiguous", columns={**columns, "high": np.asfortranarray(columns["high"])})
    refused("no column 'taker_buy_base'", columns={k: v for k, v in columns.items() if k != "taker_buy_base"})
    refused("not a one-dimensional int64", open_time=panel.open_time.astype(float))
    times = panel.open_time.copy()
    times[40] = times[39]
    refused("not increasing", open_time=times)
    times = panel.open_time.copy()
    times[40:] += 300_000
    refused("grid is not complete", open_time=times)
    refused("empty panel", symbols=(), columns={k: v[:, :0] for k, v in columns.items()})


def test_calendar_months_are_a_grid(panel):
    months = np.arange("2015-01", "2025-01", dtype="datetime64[M]").astype("datetime64[ms]").astype(np.int64)
    assert compute(replace(panel, open_time=months), NAMES).values.shape == (2, 120, 11)


def test_an_open_bar_is_not_consumed(panel):
    closes = int(panel.open_time[-1]) + 300_000
    compute(panel, NAMES, now_ms=closes)
    with pytest.raises(BadPanel, match="still open"):
        compute(panel, NAMES, now_ms=closes - 1)


def test_the_last_month_is_open_until_it_ends(panel):
    columns = {name: values[:2] for name, values in panel.columns.items()}
    for first, days in (
        ("2024-02", 31),
        ("2024-01", 29),
    ):  # March is longer than February, and the other way round
        months = (np.datetime64(first) + np.arange(2)).astype("datetime64[ms]").astype(np.int64)
        two = replace(panel, open_time=months, columns=columns)
        closes = int(months[1]) + days * 86_400_000
        assert compute(two, NAMES, now_ms=closes).shape == (2, 2, 11)
        with pytest.raises(BadPanel, match="still open"):
            compute(two, NAMES, now_ms=closes - 1)


def test_a_single_bar_that_opens_later_is_open(panel):
    one = replace(panel, open_time=panel.open_time[:1], columns={k: v[:1] for k, v in panel.columns.items()})
    with pytest.raises(BadPanel, match="still open"):
        compute(one, NAMES, now_ms=int(panel.open_time[0]))


def test_times_that_are_no_ms(panel):
    with pytest.raises(BadPanel, match="not in ms"):
        compute(replace(panel, open_time=panel.open_time * 1000), NAMES)
    stream = Stream(NAMES, panel.symbols, 300_000)
    for time in (int(panel.open_time[0]) * 1000, float(panel.open_time[0]), "1700000000000"):
        with pytest.raises(BadPanel, match="not in ms"):
            stream.update(time, bars_of(panel, 0))


def test_an_output_that_cannot_be_written(panel):
    out = np.empty((2, 120, 11), dtype=np.float32)
    out.flags.writeable = False
    with pytest.raises(BadPanel, match="writable"):
        compute(panel, NAMES, out=out)


def test_a_result_too_large_for_memory():
    with pytest.raises(KernelError, match="no memory for the result: 7450580"):
        _output((2, 10**6, 10**9), 8, None)


def test_names(panel):
    with pytest.raises(UnknownFeature, match="rsi_x") as caught:
        compute(panel, ("rsi_x",))
    assert "rsi_{n}" in caught.value.remedy
    with pytest.raises(KernelError, match="each once"):
        compute(panel, ("ema_9", "ema_9"))
    for name in ("sma_0", "sma_5001", "bollinger_width_20_0"):
        with pytest.raises(UnknownFeature, match="not between 1 and 5000"):
            compute(panel, (name,))
    for name in ("macd_26_12", "ppo_12_12", "ma_ratio_50_10", "ultosc_7_28_14", "sar_0.2_0.02"):
        with pytest.raises(UnknownFeature, match=f"of '{name}' is not below"):
            compute(panel, (name,))
    with pytest.raises(KernelError, match="251 bars") as caught:
        compute(panel, ("cci_251",))
    assert "cci_251" in caught.value.where


def bars_of(panel: SamplePanel, t: int) -> dict[str, np.ndarray]:
    return {name: values[t].copy() for name, values in panel.columns.items()}


def test_a_stream_refuses_and_goes_on(panel):
    stream = Stream(NAMES, panel.symbols, 300_000)
    expected = compute(panel, NAMES).values
    times = panel.open_time.tolist()
    for t in range(60):
        stream.update(times[t], bars_of(panel, t))
    before = stream.state()
    bad = bars_of(panel, 60)
    bad["high"][10] = bad["low"][10] / 2
    with pytest.raises(BadPanel, match="high < low") as caught:
        stream.update(times[60], bad)
    assert "SYM0010" in caught.value.where
    with pytest.raises(BadPanel, match="still open"):
        stream.update(times[60], bars_of(panel, 60), now_ms=times[60] + 299_999)
    with pytest.raises(BadPanel, match="time grid"):
        stream.update(times[60] + 1, bars_of(panel, 60))
    with pytest.raises(BadPanel, match="float64"):
        stream.update(times[60], {**bars_of(panel, 60), "low": np.ones(11, dtype=np.float32)})
    assert np.array_equal(stream.state(), before, equal_nan=True)
    for t in range(60, 120):
        assert np.array_equal(stream.update(times[t], bars_of(panel, t)), expected[:, t], equal_nan=True)


def test_a_revised_bar_is_named(panel):
    stream = Stream(NAMES, panel.symbols, 300_000)
    times = panel.open_time.tolist()
    for t in range(5):
        stream.update(times[t], bars_of(panel, t))
    revised = bars_of(panel, 4)
    revised["close"][7] *= 1.0001
    with pytest.raises(RevisedBar, match="SYM0007 close") as caught:
        stream.update(times[4], revised)
    assert str(times[4]) in str(caught.value)
    with pytest.raises(RevisedBar, match="same values"):
        stream.update(times[4], bars_of(panel, 4))
    with pytest.raises(RevisedBar, match="earlier"):
        stream.update(times[2], bars_of(panel, 2))
    with pytest.raises(BadPanel, match="not of shape"):
        stream.update(times[4], {**revised, "open": revised["open"][:-1]})


def test_bars_left_out_are_missing_bars(panel):
    gap = replace(panel, columns={k: v.copy() for k, v in panel.columns.items()})
    for values in gap.columns.values():
        values[50:53] = np.nan
        values[70:90] = np.nan
    expected = compute(gap, NAMES).values
    stream = Stream(NAMES, panel.symbols, 300_000)
    for t in (*range(50), *range(53, 70), *range(90, 120)):
        got = stream.update(int(panel.open_time[t]), bars_of(panel, t))
        assert np.array_equal(got, expected[:, t], equal_nan=True)


def test_years_left_out_take_no_time(panel, monkeypatch):
    runs = []
    run = BarJob.run
    monkeypatch.setattr(BarJob, "run", lambda *arguments: runs.append(1) or run(*arguments))
    stream = Stream(NAMES, panel.symbols, 300_000)
    for t in range(60):
        stream.update(int(panel.open_time[t]), bars_of(panel, t))
    later = (
        int(panel.open_time[60]) + 20 * 365 * 86_400_000
    )  # 2.1 million bars: no loop over them ends in time
    stream.update(later, bars_of(panel, 60))
    assert stream.last_open_time == later
    with pytest.raises(RevisedBar):
        stream.update(later - 300_000, bars_of(panel, 60))


def test_foreign_states_are_refused(panel, tmp_path):
    stream = Stream(NAMES, panel.symbols, 300_000)
    stream.update(int(panel.open_time[0]), bars_of(panel, 0))
    np.save(tmp_path / "state.npy", stream.state(), allow_pickle=False)
    state = np.load(tmp_path / "state.npy", allow_pickle=False)
    Stream.restore(NAMES, panel.symbols, 300_000, state)
    older, flipped, unknown = state.copy(), state.copy(), state.copy()
    older[0] = 1.0
    flipped[-3] = np.nextafter(flipped[-3], 1.0)
    unknown[5] = np.nan  # bars consumed
    for names, symbols, interval, given, told in (
        (("ema_10", "taker_imbalance"), panel.symbols, 300_000, state, "of other features"),
        (NAMES, panel.symbols[::-1], 300_000, state, "of other symbols"),
        (NAMES, panel.symbols, 60_000, state, "of another interval"),
        (NAMES, panel.symbols, 300_000, older, "of another version"),
        (NAMES, panel.symbols, 300_000, state[:-1], "damaged"),
        (NAMES, panel.symbols, 300_000, flipped, "damaged"),
        (NAMES, panel.symbols, 300_000, unknown, "damaged"),
        (NAMES, panel.symbols, 300_000, state.astype(np.float32), "no saved state"),
        (NAMES, panel.symbols, 300_000, state[:3], "no saved state"),
    ):
        with pytest.raises(StateMismatch, match=told):
            Stream.restore(names, symbols, interval, given)


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(BadPanel("what", where="where", remedy="remedy")))
    assert isinstance(error, BadPanel)
    assert str(error) == "what\n  where: where\n  do: remedy"
