"""The grid of open times, and what makes a row a bar."""

from __future__ import annotations

import datetime as dt
import pickle
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market import klines
from market.errors import MarketError
from market.intervals import INTERVAL_MS, PROTOCOL_INTERVALS, ceil_time, floor_time, interval_ms, open_times
from market.klines import KLINE_COLUMNS, KLINE_SCHEMA, STORED_SCHEMA, validate

MakeBars = Callable[..., pl.DataFrame]
T0, MINUTE = 1_700_006_400_000, 60_000


def _utc(ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ms / 1_000, dt.UTC)


@given(st.sampled_from(sorted(INTERVAL_MS)), st.integers(0, 4_000_000_000_000))
def test_floor_and_ceil_enclose_a_time_on_the_grid(interval: str, ms: int) -> None:
    low, high, step = floor_time(ms, interval), ceil_time(ms, interval), interval_ms(interval)
    assert low <= ms <= high and high - low in (0, step) and (high == low) == (ms == low)
    assert floor_time(low, interval) == low and open_times(low, high + 1, interval).tolist() == sorted(
        {low, high}
    )


def test_weeks_open_on_monday_and_months_on_the_first() -> None:
    assert _utc(floor_time(T0, "1w")) == dt.datetime(2023, 11, 13, tzinfo=dt.UTC)
    assert _utc(floor_time(T0, "1M")) == dt.datetime(2023, 11, 1, tzinfo=dt.UTC)
    assert all(_utc(int(t)).weekday() == 0 for t in open_times(0, T0, "1w"))


def test_open_times_are_half_open() -> None:
    assert open_times(T0, T0 + 3 * MINUTE, "1m").tolist() == [T0, T0 + MINUTE, T0 + 2 * MINUTE]
    assert open_times(T0 + 1, T0 + MINUTE, "1m").tolist() == []


@pytest.mark.parametrize(("name", "says"), [("1M", "calendar month"), ("7m", "unknown"), ("1H", "unknown")])
def test_an_interval_without_length_is_refused(name: str, says: str) -> None:
    with pytest.raises(MarketError, match=says) as caught:
        interval_ms(name)
    assert "15m" in caught.value.remedy
    assert set(PROTOCOL_INTERVALS) == {*INTERVAL_MS, "1M"}


def test_an_error_tells_what_where_and_what_to_do_and_crosses_processes() -> None:
    error = MarketError("bad", where="here", remedy="mend it")
    assert str(error) == "bad\n  where: here\n  do: mend it"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_sound_bars_pass_and_come_back_sorted(make_bars: MakeBars) -> None:
    bars = make_bars(["B", "A"], count=30)
    good, refused = validate(bars.sample(fraction=1, shuffle=True, seed=3), "1m")
    assert good.equals(bars) and refused.is_empty() and good.schema == STORED_SCHEMA
    one, none = validate(bars.filter(symbol="A").drop("symbol"), "1m")
    assert one.schema == KLINE_SCHEMA and tuple(one.columns) == KLINE_COLUMNS and none.is_empty()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"open_time": T0 + 30_000}, "open_time is not on the 1m grid"),
        ({"close_time": T0 + MINUTE}, "close_time is not open_time + 59999"),
        ({"close": float("inf")}, "a price or amount is missing or not finite"),
        ({"volume": None}, "a price or amount is missing or not finite"),
        ({"quote_volume": float("nan")}, "a price or amount is missing or not finite"),
        ({"open": 0.0, "low": 0.0}, "a price is not positive"),
        ({"high": 0.1}, "high is below open, close or low"),
        ({"low": 10.9, "high": 99.0, "open": 10.0}, "low is above open or close"),
        ({"volume": -1.0}, "a volume or count is negative"),
        ({"trades": -1}, "a volume or count is negative"),
        ({"taker_buy_base": 1e6}, "taker_buy_base exceeds volume"),
        ({"taker_buy_quote": 1e9}, "taker_buy_quote exceeds quote_volume"),
        ({"symbol": None}, "no symbol or open_time"),
    ],
)
def test_each_fault_is_named_and_touches_no_other_row(
    make_bars: MakeBars, change: dict[str, object], reason: str
) -> None:
    bars = make_bars(["A"], count=5)
    first = pl.col("open_time") == T0
    spoiled = bars.with_columns(
        pl.when(first).then(pl.lit(value, STORED_SCHEMA[name])).otherwise(name).alias(name)
        for name, value in change.items()
    )
    good, refused = validate(spoiled, "1m")
    assert refused["reason"].to_list() == [reason]
    assert good.equals(bars.filter(~first))


def test_repeats_and_contradictions(make_bars: MakeBars) -> None:
    bars = make_bars(["A", "B"], count=3)
    good, refused = validate(pl.concat([bars, bars.head(1)]), "1m")
    assert good.equals(bars) and refused["reason"].to_list() == ["duplicate"]
    other = bars.head(1).with_columns(trades=pl.col("trades") + 1)
    good, refused = validate(pl.concat([bars, other]), "1m")
    assert (
        good.equals(bars[1:])
        and refused.height == 2
        and refused["reason"].str.starts_with("contradicts").all()
    )
    unsound = bars.head(1).with_columns(close_time=T0)  # speaks against nothing: it is no bar
    good, refused = validate(pl.concat([bars, unsound]), "1m")
    assert good.equals(bars) and refused.height == 1


def test_the_dirty_download_is_parted_row_by_row(shared_data: Path) -> None:
    """Counted with plain Python over the rows, without the code under test."""
    frame = pl.read_parquet(shared_data / "klines" / "binance_spot_dirty" / "BTCUSDT_1h.parquet")
    hour, seen, wrong = 3_600_000, {}, 0
    for row in frame.select(KLINE_COLUMNS).rows():
        if row[0] % hour or row[6] != row[0] + hour - 1:
            wrong += 1
        else:
            seen.setdefault(row[0], []).append(row)
    single = sorted(rows[0] for rows in seen.values() if len(set(rows)) == 1)
    good, refused = validate(frame, "1h")
    assert good.rows() == single
    assert refused.height == frame.height - len(single) and wrong > 43
    assert refused["reason"].str.contains("grid").sum() == 43


_FAULTS: dict[str, list[object]] = {
    "symbol": ["", None, "ZZZ", "A"],
    "open_time": [T0 + 1, T0, T0 + MINUTE, None],
    "close_time": [None, T0, T0 + 7 * MINUTE - 1],
    "open": [0.0, -1.0, float("nan"), None, 1e300, 15.0],
    "high": [float("inf"), 0.1, None, 15.0],
    "low": [-1.0, 0.0, 99.0, float("nan")],
    "close": [float("-inf"), None, 1e-9],
    "volume": [-0.0, 0.0, -1.0, None, float("nan")],
    "quote_volume": [None, 0.0, -1.0, float("inf")],
    "trades": [None, 0, -1],
    "taker_buy_base": [None, 1e9, -1.0, float("nan")],
    "taker_buy_quote": [None, 1e9, 0.0],
}


@given(
    faults=st.lists(
        st.sampled_from([(name, i) for name, values in _FAULTS.items() for i in range(len(values))]),
        max_size=3,
    ),
    blank=st.sets(
        st.sampled_from(["close_time", "quote_volume", "trades", "taker_buy_base", "taker_buy_quote"])
    ),
    one_symbol=st.booleans(),
    data=st.data(),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_quick_look_says_what_the_slow_checks_say(
    make_bars: MakeBars,
    faults: list[tuple[str, int]],
    blank: set[str],
    one_symbol: bool,
    data: st.DataObject,
) -> None:
    """`validate` gives the same frames whether or not it may take the quick way for sound ones."""
    rows = make_bars(["A", "B"], count=4).rows()
    frame = pl.DataFrame(data.draw(st.permutations(rows)), schema=STORED_SCHEMA, orient="row")
    frame = frame.with_columns(pl.lit(None, STORED_SCHEMA[name]).alias(name) for name in blank)
    for name, number in faults:
        at = data.draw(st.integers(0, frame.height - 1))
        value = pl.lit(_FAULTS[name][number], STORED_SCHEMA[name])
        frame = frame.with_columns(
            pl.when(pl.int_range(pl.len()) == at).then(value).otherwise(name).alias(name)
        )
    if one_symbol:
        frame = frame.filter(symbol="A").drop("symbol")
    quick = validate(frame, "1m")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(klines, "all_sound", lambda *_: False)
        slow = validate(frame, "1m")
    for one, other in zip(quick, slow, strict=True):
        assert one.schema == other.schema and one.equals(other)
