"""What an answer settles when its rows are out of place: never more than they prove."""

from __future__ import annotations

import random

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.ingest_plan import Request, Series
from market.page_order import OUT_OF_ORDER, out_of_order
from market.page_verdict import Verdict, judge
from market.wire import parse_klines

MINUTE = 60_000
START = 1_700_006_400_000


def row(at: int, **changed: object) -> list[object]:
    fields = {"open_time": at, "high": "2", "close_time": at + MINUTE - 1} | changed
    prices = ["1", fields["high"], "1", "1", "5"]
    return [fields["open_time"], *prices, fields["close_time"], "5", 3, "1", "1", "0"]


def judged(rows: list[list[object]], bars: int = 3_000, limit: int = 1_000) -> Verdict:
    spans = ((START, START + bars * MINUTE),)
    series = Series("AAAUSDT", "1m", MINUTE, spans, None)
    return judge(parse_klines(orjson.dumps(rows)), series, spans, Request(*spans[0], limit))


def minutes(count: int, first: int = 0) -> list[list[object]]:
    return [row(START + at * MINUTE) for at in range(first, first + count)]


def test_a_row_far_ahead_between_others_does_not_stretch_the_answer() -> None:
    rows = minutes(10)
    rows[4] = row(START + 2_000 * MINUTE)
    found = judged(rows)
    assert found.covered_until == START + 10 * MINUTE
    assert found.absence.spans == [(START + 4 * MINUTE, START + 5 * MINUTE)]
    assert found.absence.refused_slots == {START + 4 * MINUTE}


@pytest.mark.parametrize("claimed", [2_000, 12, 999])
def test_a_sound_row_out_of_order_is_refused_not_stored_where_it_claims_to_be(claimed: int) -> None:
    """Kept, it would stand in for the true bar of that time, which nobody would ask for any more."""
    rows = minutes(20)
    rows[4] = row(START + claimed * MINUTE)
    del rows[12]
    found = judged(rows)
    assert START + claimed * MINUTE not in found.good["open_time"]
    assert (found.good.height, found.known) == (18, 0)
    assert found.refused.select("open_time", "reason").rows() == [(START + claimed * MINUTE, OUT_OF_ORDER)]


def test_a_wrong_time_among_those_before_it_is_found_too() -> None:
    rows = minutes(20)
    del rows[3]
    rows[10] = row(START + 3 * MINUTE)
    found = judged(rows)
    assert START + 3 * MINUTE not in found.good["open_time"] and found.good.height == 18
    assert found.absence.refused_slots == {START + 11 * MINUTE}


def test_rows_in_another_order_that_lack_nothing_are_taken() -> None:
    shuffled = minutes(50)
    random.Random(3).shuffle(shuffled)
    for rows in (minutes(50)[::-1], shuffled):
        found = judged(rows)
        assert (found.good.height, found.refused.height) == (50, 0)
        assert found.covered_until == START + 50 * MINUTE


def test_the_time_of_another_row_is_a_contradiction_and_costs_both() -> None:
    rows = minutes(20)
    del rows[15]
    rows[4] = row(START + 9 * MINUTE, high="3")
    found = judged(rows)
    assert found.good.height == 17
    assert set(found.refused["reason"]) == {"contradicts another row of the same open_time"}


def test_a_last_row_after_a_hole_waits_for_the_answer_that_begins_with_it() -> None:
    found = judged([*minutes(10), row(START + 2_000 * MINUTE)])
    assert found.covered_until == START + 10 * MINUTE
    assert (found.good.height, found.refused.height, found.absence.spans) == (10, 0, [])
    alone = judged([row(START + 2_000 * MINUTE)])
    assert alone.good.height == 1 and alone.absence.spans == [(START, START + 2_000 * MINUTE)]


@given(st.lists(st.integers(0, 30), max_size=25))
def test_as_few_rows_as_possible_are_blamed(times: list[int]) -> None:
    wrong = out_of_order(np.array(times, np.int64), 1)
    longest = [1] * len(times)  # of the ascents that end with each row
    for at in range(len(times)):
        longest[at] += max((longest[i] for i in range(at) if times[i] <= times[at]), default=0)
    kept = [time for time, blamed in zip(times, wrong, strict=True) if not blamed]
    assert len(kept) >= max(longest, default=0)
    blamed_times = {time for time, blamed in zip(times, wrong, strict=True) if blamed}
    assert not blamed_times & set(kept)
    if times and len(set(times)) == max(times) - min(times) + 1:
        assert kept == times


def test_a_refused_row_far_ahead_does_not_either() -> None:
    found = judged([*minutes(10), row(START + 2_000 * MINUTE, high="0.5")])
    assert found.covered_until == START + 10 * MINUTE
    assert not found.absence.spans


def test_refused_rows_at_the_end_are_settled_as_far_as_they_follow_each_other() -> None:
    bad = [row(START + at * MINUTE, high="0.5") for at in (10, 11, 13)]
    found = judged([*minutes(10), *bad])
    assert found.covered_until == START + 12 * MINUTE


def test_a_page_of_refused_rows_alone_goes_on() -> None:
    found = judged([row(START + at * MINUTE, high="0.5") for at in (5, 6)])
    assert found.covered_until == START + 6 * MINUTE


def test_rows_of_another_time_alone_prove_no_outage() -> None:
    found = judged([row(START - at * MINUTE) for at in range(1_000, 0, -1)])
    assert found.absence.all_stray
    assert found.covered_until == START + 1_000 * MINUTE
    assert not judged([]).absence.all_stray
