"""What an answer settles when its rows are out of place: never more than they prove."""

from __future__ import annotations

import orjson

from market.ingest_plan import Request, Series
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
