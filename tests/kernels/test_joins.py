"""Features of longer intervals at the bars of a shorter one: the last closed bar, that very bar, or nothing."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from kernels.compute import FeatureBlock, compute
from kernels.errors import BadPanel, UnknownFeature
from kernels.joins import (
    IntervalFeatures,
    JoinedFeatures,
    features_by_interval,
    intervals_of,
    joined_name,
    longer_bars,
    split_name,
)
from market.intervals import INTERVAL_MS, ceil_time, interval_ms, is_multiple
from market.store import Panel

START = 1_735_689_600_000  # 2025-01-01, a Wednesday
SYMBOLS = ("AUSDT", "BUSDT", "CUSDT")


def block(
    interval: str, start: int, bars: int, *, symbols=SYMBOLS, names=("x", "y"), seed: int = 0
) -> FeatureBlock:
    first = ceil_time(start, interval)
    times = first + interval_ms(interval) * np.arange(bars, dtype=np.int64)
    values = np.random.default_rng(seed).normal(size=(len(names), bars, len(symbols))).astype(np.float32)
    return FeatureBlock(values, names, times, symbols)


def features(interval: str, of: FeatureBlock, **more) -> IntervalFeatures:
    return IntervalFeatures(interval, interval_ms(interval), of, **more)


def by_the_book(base: IntervalFeatures, longer: IntervalFeatures) -> np.ndarray:
    """Bar after bar: of all longer bars of the time grid that have closed by now, the one that closed last."""
    found = np.full(
        (len(longer.block.names), len(base.block.open_time), len(base.block.symbols)), np.nan, np.float32
    )
    known = {int(t): row for row, t in enumerate(longer.block.open_time)}
    for t, open_time in enumerate(base.block.open_time.tolist()):
        close_time = open_time + base.step_ms - 1
        grid = (longer.block.open_time[0] + longer.step_ms * k for k in range(-3, len(known) + 3))
        due = max((o for o in grid if o + longer.step_ms - 1 <= close_time), default=None)
        for s, symbol in enumerate(base.block.symbols):
            if due in known and symbol in longer.block.symbols:
                found[:, t, s] = longer.block.values[:, known[due], longer.block.symbols.index(symbol)]
    return found


@pytest.mark.parametrize(
    ("own", "other"), [("5m", "15m"), ("15m", "1h"), ("1h", "4h"), ("1d", "1w"), ("12h", "3d")]
)
@pytest.mark.parametrize("shift", [0, 7, -9])
def test_each_bar_has_the_longer_bar_that_closed_last(own: str, other: str, shift: int) -> None:
    times = interval_ms(other) // interval_ms(own)
    base = features(own, block(own, START + interval_ms(own), 8 * times))
    longer = features(other, block(other, START + shift * interval_ms(own) // 2, 6, names=("x", "z"), seed=1))
    joined = JoinedFeatures(base, [longer])
    assert joined.names == ("x", "y", f"x@{other}", f"z@{other}")
    whole = joined.read(0, len(joined.open_time))
    assert whole.shape == joined.shape
    assert np.array_equal(whole[:2], base.block.values)
    assert np.array_equal(whole[2:], by_the_book(base, longer), equal_nan=True)
    assert 0 < np.isfinite(whole[2]).all(axis=1).mean() < 1, (
        "bars before and after the longer ones are among them"
    )


def test_any_cut_of_time_gives_the_same_bits() -> None:
    base = features("5m", block("5m", START, 150))
    longer = [
        features("15m", block("15m", START - 10**7, 60, seed=1)),
        features("1h", block("1h", START - 10**8, 30, symbols=("CUSDT", "AUSDT"), seed=2)),
    ]
    joined = JoinedFeatures(base, longer)
    whole = joined.read(0, 150)
    for step in (1, 7, 64):
        pieces = [joined.read(at, min(at + step, 150)) for at in range(0, 150, step)]
        assert np.concatenate(pieces, axis=1).tobytes() == whole.tobytes()
    for t in range(150):  # bar by bar, with nothing stored yet that closes later
        now = base.block.open_time[t] + base.step_ms
        then = [part._replace(block=_until(part.block, int(now - part.step_ms))) for part in (base, *longer)]
        assert JoinedFeatures(then[0], then[1:]).read(t, t + 1).tobytes() == whole[:, t : t + 1].tobytes()


def _until(of: FeatureBlock, last_open_time: int) -> FeatureBlock:
    bars = int(np.searchsorted(of.open_time, last_open_time, side="right"))
    return replace(of, values=of.values[:, :bars], open_time=of.open_time[:bars])


def market(bars: int = 1_200, seed: int = 3) -> Panel:
    random = np.random.default_rng(seed)
    shape = (bars, len(SYMBOLS))
    close = 100 * np.exp(np.cumsum(random.normal(0, 2e-3, shape), axis=0))
    before = np.vstack([close[:1], close[:-1]])
    columns = {
        "open": before,
        "high": np.maximum(close, before) * 1.001,
        "low": np.minimum(close, before) * 0.999,
        "close": close,
        "volume": random.lognormal(3, 1, shape),
    }
    return Panel(START + 300_000 * np.arange(bars, dtype=np.int64), SYMBOLS, "5m", columns)


def longer_panel(panel: Panel, times: int, interval: str) -> Panel:
    """Bars of `times` bars each; the last one may be of fewer: it is still open."""
    pieces = [slice(at, at + times) for at in range(0, len(panel.open_time), times)]
    how = {"open": lambda v: v[0], "high": np.max, "low": np.min, "close": lambda v: v[-1], "volume": np.sum}
    columns = {
        name: np.stack(
            [how[name](v[p]) if name in ("open", "close") else how[name](v[p], axis=0) for p in pieces]
        )
        for name, v in panel.columns.items()
    }
    return Panel(panel.open_time[::times], panel.symbols, interval, columns)


NAMES = ("log_return_1", "rsi_14", "natr_14", "realised_vol_30")


def joined_market(panel: Panel) -> np.ndarray:
    own = features("5m", compute(panel, NAMES))
    longer = [
        features(name, compute(longer_panel(panel, times, name), NAMES))
        for name, times in (("15m", 3), ("1h", 12))
    ]
    return JoinedFeatures(own, longer).read(0, len(panel.open_time))


@pytest.mark.parametrize("bar", [700, 706, 707, 708])
def test_what_comes_later_changes_nothing_the_open_longer_bar_included(bar: int) -> None:
    """Bars 696..707 are one hour: at 706 it is still open, at 707 it has closed."""
    panel = market()
    before = joined_market(panel)
    other = {name: values.copy() for name, values in panel.columns.items()}
    for name, values in other.items():
        values[bar + 1 :] *= (
            3 if name == "volume" else 1.2 + 0.1 * np.sin(np.arange(len(values) - bar - 1))[:, None]
        )
    other["high"][bar + 1 :] *= 1.3
    after = joined_market(replace(panel, columns=other))
    assert after[:, : bar + 1].tobytes() == before[:, : bar + 1].tobytes()
    hour = joined_name("log_return_1", "1h")
    at = [*NAMES, *(joined_name(n, "15m") for n in NAMES), *(joined_name(n, "1h") for n in NAMES)].index(hour)
    seen = np.flatnonzero((after[at] != before[at]).any(axis=1) & np.isfinite(before[at]).all(axis=1))
    assert seen[0] == {700: 707, 706: 707, 707: 719, 708: 719}[bar], (
        "the change is seen when its hour has closed"
    )


def test_a_missing_longer_bar_is_missing_and_no_older_one_stands_in_for_it() -> None:
    base = features("15m", block("15m", START, 48))
    hours = block("1h", START, 12, names=("x",), seed=1)
    hours.values[:, 5, 1] = np.nan  # the sixth hour of one symbol: bars 23..26 have it
    seen = JoinedFeatures(base, [features("1h", hours)]).read(0, 48)[2]
    assert np.flatnonzero(np.isnan(seen[3:, 1])).tolist() == [20, 21, 22, 23]
    assert (seen[27:31, 1] == hours.values[0, 6, 1]).all(), "the next good one"
    assert np.isfinite(seen[3:, [0, 2]]).all()


def test_a_longer_bar_that_is_not_stored_yet_is_not_replaced_by_the_one_before() -> None:
    base = features("15m", block("15m", START, 48))
    late = JoinedFeatures(base, [features("1h", block("1h", START, 11, names=("x",)))]).read(40, 48)[2]
    assert np.isfinite(late[:7]).all()
    assert np.isnan(late[7]).all()
    none = JoinedFeatures(base, [features("1h", block("1h", START, 0, names=("x",)))]).read(0, 48)[2]
    assert np.isnan(none).all()


def test_a_symbol_that_starts_late_is_empty_until_its_first_longer_bar_has_closed() -> None:
    base = features("15m", block("15m", START, 48))
    hours = block("1h", START, 12, names=("x",), symbols=("CUSDT", "AUSDT"))
    hours.values[:, :4, 0] = np.nan
    seen = JoinedFeatures(base, [features("1h", hours)]).read(0, 48)[2]
    assert np.isnan(seen[:, 1]).all(), "a symbol that the longer interval lacks"
    assert np.isnan(seen[:19, 2]).all()
    assert np.isfinite(seen[19:, 2]).all()
    assert np.isfinite(seen[3:, 0]).all()


def test_chosen_features_come_in_their_order() -> None:
    own = features("5m", block("5m", START, 30), chosen=("y",))
    longer = features("15m", block("15m", START, 10, names=("a", "b", "c")), chosen=("c", "a"))
    joined = JoinedFeatures(own, [longer])
    assert joined.names == ("y", "c@15m", "a@15m")
    read = joined.read(2, 30)
    assert np.array_equal(read[0], own.block.values[1, 2:])
    assert np.array_equal(read[1:, 0], longer.block.values[[2, 0], 0])


def test_what_cannot_be_joined_is_refused() -> None:
    base = features("15m", block("15m", START, 20))
    holed = block("1h", START, 6)
    holed.open_time[3:] += 3_600_000
    off = block("1h", START, 6)
    off.open_time[:] += 60_000
    for parts, told in (
        ([features("5m", block("5m", START, 60))], "5m are no whole number"),
        ([features("15m", block("15m", START, 20))], "15m are no whole number"),
        ([IntervalFeatures("20m", 1_200_000, block("15m", START, 20))], "20m are no whole number"),
        ([features("1h", holed)], "no complete grid"),
        ([features("1h", off)], "do not close together"),
        ([features("1h", block("1h", START, 6))] * 2, "twice"),
    ):
        with pytest.raises(BadPanel, match=told) as caught:
            JoinedFeatures(base, parts)
        assert caught.value.where
        assert caught.value.remedy


def test_names_tell_the_interval() -> None:
    names = ("rsi_14", "rsi_14@1h", "hour_sin", "adx_14@4h", "log_return_1@1h")
    assert split_name(joined_name("rsi_14", "1h")) == ("rsi_14", "1h")
    assert split_name("rsi_14") == ("rsi_14", None)
    assert features_by_interval(names, "15m") == {
        "15m": ("rsi_14", "hour_sin"),
        "1h": ("rsi_14", "log_return_1"),
        "4h": ("adx_14",),
    }
    assert intervals_of(names, "15m") == ("15m", "1h", "4h")
    for wrong in ("@1h", "rsi_14@", "rsi_14@15m"):
        with pytest.raises(UnknownFeature, match="no name of a feature"):
            features_by_interval(("rsi_14", wrong), "15m")


def test_the_grid_of_every_interval_holds_those_of_its_multiples() -> None:
    """What `is_multiple` promises; a week opens on Monday, three days on their own grid."""
    pairs = [(a, b) for a, b in combinations(INTERVAL_MS, 2) if is_multiple(b, a)]
    assert ("1d", "1w") in pairs
    assert ("3d", "1w") not in pairs
    assert ("1h", "1M") not in pairs
    for shorter, longer in pairs:
        first = ceil_time(START, longer)
        assert ceil_time(first, shorter) == first
        own = features(shorter, block(shorter, first, 3))
        JoinedFeatures(own, [features(longer, block(longer, first, 3, names=("x",)))])


def test_the_longer_bars_of_a_window_are_counted() -> None:
    for own, other, window in (("15m", "1h", 64), ("5m", "15m", 16), ("1h", "1d", 7), ("1h", "4h", 1)):
        step, longer = interval_ms(own), interval_ms(other)
        most = max(
            len({(t + step) // longer for t in range(first, first + window * step, step)})
            for first in range(START, START + longer, step)
        )
        assert longer_bars(window, step, longer) == most
