"""Which requests are sent for what is missing: every bar is covered, and no request is sent for nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from market.ingest_plan import Series, Span, clip, count_bars, next_request, split_into_lanes, union

LENGTH = 60_000
MAX = 1000

span_lists = st.lists(st.tuples(st.integers(0, 6000), st.integers(1, 2500)), max_size=12).map(
    lambda pairs: union((start * LENGTH, (start + bars) * LENGTH) for start, bars in pairs)
)


def slots(spans: tuple[Span, ...]) -> set[int]:
    return {at for start, end in spans for at in range(start, end, LENGTH)}


def walk(spans: tuple[Span, ...]) -> tuple[set[int], int]:
    """Play an exchange that has every bar: return what was received, and in how many requests."""
    received: set[int] = set()
    requests, cursor = 0, 0
    while (request := next_request(spans, cursor, LENGTH)) is not None:
        assert 1 <= request.limit <= MAX
        page = list(range(request.start, request.end, LENGTH))[: request.limit]
        assert page[0] in slots(spans)
        assert not received & set(page)
        received |= set(page)
        requests += 1
        cursor = page[-1] + LENGTH
    return received, requests


@given(span_lists)
@settings(max_examples=150, deadline=None)
def test_all_that_is_missing_arrives_in_the_fewest_requests(spans: tuple[Span, ...]) -> None:
    wanted = slots(spans)
    received, requests = walk(spans)
    assert wanted <= received
    fewest, at = 0, -1  # covering points with windows of a thousand bars: greedy from the left is optimal
    for slot in sorted(wanted):
        if slot >= at:
            fewest, at = fewest + 1, slot + MAX * LENGTH
    assert requests == fewest


@given(st.integers(1, 40_000), st.integers(1, 16))
def test_lanes_cover_a_span_and_cost_no_extra_page(bars: int, lanes: int) -> None:
    series = Series("X", "1m", LENGTH, ((0, bars * LENGTH),), None)
    parts = split_into_lanes(series, lanes)
    assert 1 <= len(parts) <= lanes
    assert union(span for part in parts for span in part) == series.spans
    pages = sum(-(-count_bars(part, LENGTH) // MAX) for part in parts)
    assert pages == -(-bars // MAX)


@given(span_lists, st.integers(0, 9000), st.integers(0, 9000))
def test_clip(spans: tuple[Span, ...], a: int, b: int) -> None:
    start, end = min(a, b) * LENGTH, max(a, b) * LENGTH
    inside = {at for at in slots(spans) if start <= at < end}
    assert slots(tuple(clip(spans, start, end))) == inside


def test_union_merges_what_touches() -> None:
    assert union([(5, 9), (0, 2), (2, 3), (7, 8), (4, 4)]) == ((0, 3), (5, 9))
