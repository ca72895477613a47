"""Span algebra, missing spans and the gap ledger against plain sets of open times."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market.klines import STORED_SCHEMA
from market.store import GAP_SCHEMA, KlineStore, spans

T0, MINUTE = 1_700_006_400_000, 60_000
_SPAN = st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda at: (at[0], at[0] + at[1]))
_SPANS = st.lists(_SPAN, max_size=8)


def _points(found: np.ndarray | list[tuple[int, int]]) -> set[int]:
    return {point for start, end in found for point in range(start, end)}


def _array(rows: list[tuple[int, int]]) -> np.ndarray:
    return np.array(rows, np.int64).reshape(-1, 2)


@given(_SPANS)
def test_merge_keeps_points_and_parts_spans(rows: list[tuple[int, int]]) -> None:
    merged = spans.merge(_array(rows))
    assert _points(merged.tolist()) == _points(rows)
    assert (merged[:, 0] < merged[:, 1]).all() and (merged[1:, 0] > merged[:-1, 1]).all()


@given(_SPANS, _SPANS)
def test_subtract_is_set_difference(rows: list[tuple[int, int]], holes: list[tuple[int, int]]) -> None:
    whole, cut = spans.merge(_array(rows)), spans.merge(_array(holes))
    rest, origin = spans.subtract(whole, cut)
    assert _points(rest.tolist()) == _points(rows) - _points(holes)
    assert (rest[1:, 0] >= rest[:-1, 1]).all()
    assert all(whole[o, 0] <= s < e <= whole[o, 1] for (s, e), o in zip(rest.tolist(), origin, strict=True))


def test_subtract_keeps_touching_spans_apart() -> None:
    rest, origin = spans.subtract(_array([(0, 5), (5, 9)]), _array([(2, 3)]))
    assert rest.tolist() == [[0, 2], [3, 5], [5, 9]] and origin.tolist() == [0, 0, 1]


@given(st.sets(st.integers(0, 60)))
def test_runs_cover_exactly_the_points(points: set[int]) -> None:
    found = spans.runs(np.array(sorted(points), np.int64) * 10, 10)
    assert {start // 10 for s, e in found.tolist() for start in range(s, e, 10)} == points
    assert (found[1:, 0] > found[:-1, 1]).all()


_SYMBOL = st.sampled_from(["A", "B", "C"])
_WRITE = st.tuples(st.just("write"), st.sets(st.tuples(_SYMBOL, st.integers(0, 30)), max_size=25))
_LEDGER = st.tuples(
    st.just("gap"),
    st.lists(st.tuples(_SYMBOL, st.integers(0, 28), st.integers(1, 9)), min_size=1, max_size=3),
)
_ROLL = st.tuples(st.just("roll"), st.none())
_QUERY = st.tuples(st.integers(0, 30), st.integers(0, 12))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(_WRITE, _LEDGER, _ROLL), max_size=7), _QUERY)
def test_store_agrees_with_sets(steps: list[tuple[str, object]], query: tuple[int, int]) -> None:
    """Whatever is written, ledgered and rolled, in whatever order, comes out as sets have it."""
    stored: set[tuple[str, int]] = set()
    absent: dict[tuple[str, int], str] = {}
    with tempfile.TemporaryDirectory() as folder, KlineStore.open(Path(folder)) as store:
        for number, (kind, what) in enumerate(steps):
            if kind == "write":
                result = store.write("6h", _bars(what))  # type: ignore[arg-type]
                assert result.rows_inserted == len(what - stored)  # type: ignore[operator]
                assert result.rows_unchanged == len(what & stored)  # type: ignore[operator]
                stored |= what  # type: ignore[arg-type, operator]
                absent = {key: cause for key, cause in absent.items() if key not in stored}
            elif kind == "gap":
                store.record_gaps("6h", _gaps(what, str(number)))  # type: ignore[arg-type]
                for symbol, at, length in what:  # type: ignore[attr-defined]
                    keys = {(symbol, i) for i in range(at, at + length)} - stored
                    absent.update(dict.fromkeys(keys, str(number)))
            else:
                store.roll(T0 + 5 * 86_400_000)
        first, length = query
        for symbol, found in store.missing_many("ABC", "6h", _time(first), _time(first + length)).items():
            want = {
                i
                for i in range(first, first + length)
                if (symbol, i) not in stored and (symbol, i) not in absent
            }
            assert _points([((s - T0) // _STEP, (e - T0) // _STEP) for s, e in found]) == want
            assert all(a[1] < b[0] for a, b in pairwise(found))
        ledger = {
            (symbol, (at - T0) // _STEP): cause
            for symbol, _, start, end, cause, *_ in store.gaps().rows()
            for at in range(start, end, _STEP)
        }
        assert ledger == absent
        keys = store.scan("6h").collect().select("symbol", "open_time").rows()
        assert keys == sorted((symbol, _time(i)) for symbol, i in stored)
        assert store.spans()["rows"].sum() == len(stored)
        assert store.verify() == []


_STEP = 6 * 3_600_000


def _time(index: int) -> int:
    return T0 + index * _STEP


def _bars(keys: set[tuple[str, int]]) -> pl.DataFrame:
    """Bars whose values follow from their key, so that the same key is always the same bar."""
    rows = [
        (symbol, _time(i), 5.0 + i, 6.0 + i, 4.0 + i, 5.0 + i, 2.0 + ord(symbol), None, None, 3, 1.0, None)
        for symbol, i in keys
    ]
    return pl.DataFrame(rows, schema=STORED_SCHEMA, orient="row")


def _gaps(what: list[tuple[str, int, int]], cause: str) -> pl.DataFrame:
    rows = [(symbol, _time(at), _time(at + length), cause, 7) for symbol, at, length in what]
    return pl.DataFrame(rows, schema=GAP_SCHEMA, orient="row")
