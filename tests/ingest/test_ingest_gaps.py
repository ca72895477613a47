"""What an exchange does not have: ledgered with its cause, looked at again in time, healed when it comes."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import polars as pl
import pytest

from market.client_errors import UnknownSymbolError
from market.ingest import DAY_MS, ingest_sync
from market.ingest_report import IngestReport
from market.store import KlineStore

MINUTE = 60_000
NOW = 1_700_006_400_000 + DAY_MS
START = NOW - 3000 * MINUTE
HOUR = 60 * MINUTE


@pytest.fixture
def exchange(scripted):
    assert scripted.now == NOW
    return scripted


@pytest.fixture
def update(exchange, serve: Callable[..., str], store: KlineStore):
    """Ingest 1m bars from START on."""
    url = serve(exchange)

    def run(*symbols: str, start: int = START, **options: int) -> IngestReport:
        exchange.asked.clear()
        exchange.queries.clear()
        exchange.rows_sent = 0
        return ingest_sync(url, store, symbols or ["AAAUSDT"], ["1m"], start=start, **options)

    return run


def ledger(store: KlineStore, symbol: str = "AAAUSDT") -> list[tuple[int, int, str]]:
    return store.gaps("1m", [symbol]).select("start_time", "end_time", "cause").sort("start_time").rows()


def opens(store: KlineStore, symbol: str = "AAAUSDT") -> list[int]:
    return store.scan("1m", [symbol]).select("open_time").collect()["open_time"].to_list()


def test_an_outage_is_ledgered_and_not_asked_for_again(exchange, update, store) -> None:
    hole = range(START + 500 * MINUTE, START + 620 * MINUTE, MINUTE)
    exchange.fill("AAAUSDT", "1m", START, NOW, without=hole)
    report = update()
    assert ledger(store) == [(hole.start, hole.stop, "outage")]
    assert (report.total("inserted"), report.total("gaps")) == (2880, 120)
    assert opens(store) == [at for at in range(START, NOW, MINUTE) if at not in hole]
    again = update()
    assert exchange.asked == {"time": 1}
    assert again.requests == 1


def looked_back_to(exchange) -> int:
    return min(int(query["startTime"]) for query in exchange.queries)


def test_one_wrong_empty_answer_is_mended_after_minutes(exchange, update, store) -> None:
    hole = range(NOW - 5 * HOUR, NOW - 3 * HOUR, MINUTE)
    exchange.fill("AAAUSDT", "1m", START, NOW + HOUR, without=hole)
    update()
    assert ledger(store) == [(hole.start, hole.stop, "outage")]
    exchange.fill("AAAUSDT", "1m", hole.start, hole.stop)  # it had them all the time
    exchange.now = NOW + 4 * MINUTE
    assert update().total("inserted") == exchange.rows_sent == 4, "only the newest bars"
    exchange.now = NOW + 5 * MINUTE
    assert update().total("inserted") == 1 + len(hole)
    assert ledger(store) == []
    assert opens(store) == list(range(START, exchange.now, MINUTE))


def test_a_gap_is_looked_at_again_after_minutes_hours_days_and_heals(exchange, update, store) -> None:
    hole = range(NOW - 30 * MINUTE, NOW - 10 * MINUTE, MINUTE)
    exchange.fill("AAAUSDT", "1m", START, NOW + 30 * DAY_MS, without=hole)
    update()
    looks = [5, 20, 50, 110, 230, 470, 950, 1910, 3830, 7670, 15350]  # after as long as it was old
    looks.append(looks[-1] + 7 * 1440)  # but after a week at most
    for minute in looks:
        exchange.now = NOW + (minute - 1) * MINUTE
        update()
        assert looked_back_to(exchange) > hole.stop, f"too early by a minute: {minute}"
        exchange.now = NOW + minute * MINUTE
        report = update()
        assert looked_back_to(exchange) == hole.start
        assert (report.total("gaps"), report.total("still_absent")) == (0, 20), "no news"
    assert store.gaps("1m")["found_time"].to_list() == [NOW]
    assert store.gaps("1m")["checked_time"].to_list() == [NOW + looks[-1] * MINUTE]
    exchange.fill("AAAUSDT", "1m", hole.start, hole.stop)
    exchange.now += 8 * DAY_MS
    update()
    assert ledger(store) == []
    assert opens(store) == list(range(START, exchange.now, MINUTE))


def test_an_old_gap_is_confirmed_and_then_rests(exchange, update, store) -> None:
    old = range(START, START + 10 * MINUTE, MINUTE)
    exchange.fill("AAAUSDT", "1m", START - 10 * MINUTE, NOW + 4 * DAY_MS, without=old)
    update(start=START - 10 * MINUTE)
    exchange.now = NOW + 5 * MINUTE
    update()
    assert looked_back_to(exchange) == START
    exchange.now = NOW + DAY_MS
    update()
    assert looked_back_to(exchange) == NOW + 5 * MINUTE
    exchange.now = NOW + 50 * HOUR  # it was so old when last looked at
    update()
    assert looked_back_to(exchange) == START


def test_an_ingest_looks_at_a_hundred_gaps_again_and_at_the_others_later(exchange, update, store) -> None:
    holes = {START + 20 * number * MINUTE for number in range(1, 131)}
    exchange.fill("AAAUSDT", "1m", START, NOW + DAY_MS, without=holes)
    update()
    assert len(ledger(store)) == 130
    for minute, seen_again in ((5, 100), (6, 130)):
        exchange.now = NOW + minute * MINUTE
        update()
        assert (store.gaps("1m")["checked_time"] > NOW).sum() == seen_again
    assert len(ledger(store)) == 130


def test_the_time_before_a_listing_is_found_with_one_request(exchange, update, store) -> None:
    listed = NOW - 300 * MINUTE
    exchange.fill("AAAUSDT", "1m", listed, NOW)
    report = update(start=NOW - 400 * DAY_MS)
    assert ledger(store) == [(NOW - 400 * DAY_MS, listed, "before_listing")]
    assert opens(store) == list(range(listed, NOW, MINUTE))
    assert [query for query in exchange.queries if query["startTime"] == "0"] == [
        {"symbol": "AAAUSDT", "interval": "1m", "limit": "1", "startTime": "0"}
    ]
    assert exchange.asked["klines"] <= 1 + 8, (
        "a year of emptiness is crossed by one request in each of 8 lanes"
    )
    assert report.total("gaps") == 400 * 1440 - 300
    exchange.now = NOW + DAY_MS - 1
    update(end=NOW, start=NOW - 400 * DAY_MS)
    assert exchange.asked == {"time": 1}
    exchange.now = NOW + 8 * DAY_MS
    update(end=NOW, start=NOW - 400 * DAY_MS)
    assert exchange.asked["klines"] == 1, "another look after a week costs a request"
    assert ledger(store) == [(NOW - 400 * DAY_MS, listed, "before_listing")]


def test_a_span_wholly_before_the_listing(exchange, update, store) -> None:
    exchange.fill("AAAUSDT", "1m", NOW - 10 * MINUTE, NOW)
    update(start=NOW - 100 * MINUTE, end=NOW - 50 * MINUTE)
    assert ledger(store) == [(NOW - 100 * MINUTE, NOW - 50 * MINUTE, "before_listing")]


def test_an_outage_between_listing_and_first_wanted_bar_is_no_listing(exchange, update, store) -> None:
    exchange.fill("AAAUSDT", "1m", START - DAY_MS, NOW, without=range(START, START + HOUR, MINUTE))
    update()
    assert ledger(store) == [(START, START + HOUR, "outage")]


def test_a_delisted_symbol_is_not_asked_for_at_every_run(exchange, update, store) -> None:
    end = NOW - 600 * MINUTE
    exchange.fill("AAAUSDT", "1m", START, end)
    exchange.fill("BBBUSDT", "1m", START, NOW + DAY_MS)
    exchange.status["AAAUSDT"] = "BREAK"
    update("AAAUSDT", "BBBUSDT")
    [(gap_start, gap_end, cause)] = ledger(store)
    assert (gap_start, cause) == (end, "not_listed_anymore")
    assert NOW - 5 * MINUTE <= gap_end < NOW
    exchange.now = NOW + HOUR
    update("AAAUSDT", "BBBUSDT")
    assert {query["symbol"] for query in exchange.queries} == {"BBBUSDT"}
    assert exchange.rows_sent == 60
    exchange.fill("AAAUSDT", "1m", NOW + 2 * HOUR, NOW + 3 * DAY_MS)  # listed again
    exchange.status["AAAUSDT"] = "TRADING"
    exchange.now = NOW + 26 * HOUR
    update()
    assert opens(store)[-1] == NOW + 26 * HOUR - MINUTE


def test_what_ended_is_told_from_what_went_on_later(exchange, update, store) -> None:
    """Not traded today: years are asked for in pieces, one of which ends in a hole, another after the last bar."""
    hole, end = (START + 500 * MINUTE, START + 900 * MINUTE), START + 1_500 * MINUTE
    exchange.fill("AAAUSDT", "1m", START, end, without=range(*hole, MINUTE))
    exchange.status["AAAUSDT"] = "BREAK"
    update(end=START + 800 * MINUTE)
    assert ledger(store) == [(hole[0], START + 800 * MINUTE, "outage")]
    report = update(end=START + 2_000 * MINUTE)
    assert opens(store)[-1] == end - MINUTE and not report.total("pending"), "what follows is not held back"
    assert ledger(store)[-1] == (end, START + 2_000 * MINUTE, "not_listed_anymore")


def test_a_long_time_after_the_end_has_one_cause_throughout(exchange, update, store) -> None:
    start, end = NOW - 60_000 * MINUTE, NOW - 55_000 * MINUTE
    exchange.fill("AAAUSDT", "1m", start, end)
    exchange.status["AAAUSDT"] = "BREAK"
    update(start=start)
    assert len([query for query in exchange.queries if query["limit"] == "1000"]) > 8, "walked in lanes"
    assert {cause for _, _, cause in ledger(store)} == {"not_listed_anymore"}


def test_a_halt_is_over_within_its_own_length_and_never_silent(exchange, update, store) -> None:
    end, again = NOW + 10 * MINUTE, NOW + 25 * MINUTE
    exchange.fill("AAAUSDT", "1m", START, end)
    exchange.fill("AAAUSDT", "1m", again, NOW + DAY_MS)
    for minute in range(9, 60):
        exchange.now = NOW + minute * MINUTE
        exchange.status["AAAUSDT"] = "BREAK" if end <= exchange.now < again else "TRADING"
        report = update()
        asked = sum(map(report.total, ("inserted", "gaps", "still_absent", "pending")))
        newest = opens(store)[-1]
        assert asked or newest == exchange.now - MINUTE or exchange.now <= end, (
            "what is not asked for is pending"
        )
    assert opens(store) == [*range(START, end, MINUTE), *range(again, exchange.now, MINUTE)]
    assert ledger(store) == [(end, again, "outage")]


def test_bars_missing_a_moment_after_they_closed_are_asked_for_again(exchange, update, store) -> None:
    exchange.fill("AAAUSDT", "1m", START, NOW, without=[NOW - MINUTE])
    report = update()
    assert ledger(store) == []
    assert report.total("pending") == 1
    exchange.fill("AAAUSDT", "1m", NOW - MINUTE, NOW)
    assert update().total("inserted") == 1


def test_a_host_that_gives_fewer_rows_than_asked_makes_no_gaps(exchange, update, store) -> None:
    exchange.cap = 300
    exchange.fill("AAAUSDT", "1m", START, NOW)
    update()
    assert ledger(store) == []
    assert opens(store) == list(range(START, NOW, MINUTE))


def test_the_open_bar_is_never_stored(exchange, update, store) -> None:
    exchange.fill("AAAUSDT", "1m", START, NOW + MINUTE)
    for now in (NOW, NOW + 1, NOW + 59_999):
        exchange.now = now
        update()
        assert opens(store)[-1] == NOW - MINUTE
    exchange.now = NOW + MINUTE
    update()
    assert opens(store)[-1] == NOW


def test_refused_and_unreadable_rows_are_quarantined_with_their_text(exchange, update, store) -> None:
    exchange.fill("AAAUSDT", "1m", START, NOW)
    rows = exchange.bars["AAAUSDT", "1m"]
    at = [START + n * MINUTE for n in (10, 20, 21, 30, 1500)]
    rows[at[0]] = [*rows[at[0]][:3], "3.5", *rows[at[0]][4:]]  # low above high
    rows[at[1]] = rows[at[1]][:11]
    rows[at[2]] = [at[2], "x", *rows[at[2]][2:]]
    rows[at[3]] = ["?", *rows[at[3]][1:]]
    rows[at[4]] = [at[4] + 7, *rows[at[4]][1:]]
    sent = {n: orjson.dumps(rows[n]).decode() for n in at}
    report = update()
    assert report.total("refused") == 5
    assert report.total("inserted") == 2995
    assert ledger(store) == [
        (at[0], at[0] + MINUTE, "refused_rows"),
        (at[1], at[2] + MINUTE, "refused_rows"),
        (at[3], at[3] + MINUTE, "refused_rows"),
        (at[4], at[4] + MINUTE, "refused_rows"),
    ]
    aside = store.quarantined("1m")
    assert aside["symbol"].unique().to_list() == ["AAAUSDT"]
    assert {orjson.loads(raw)["raw"] for raw in aside["raw"]} == set(sent.values())
    reasons = " / ".join(aside["reason"])
    assert "11 fields instead of 12" in reasons
    assert "open is not a finite number: 'x'" in reasons
    assert "open_time is not a whole number" in reasons
    assert "grid" in reasons
    assert update().requests == 1, "not asked for again at once"
    assert store.quarantined("1m").height == 5


def test_holes_are_filled_in_one_request_and_revisions_between_them_are_noticed(
    exchange, update, store
) -> None:
    exchange.fill("AAAUSDT", "1m", START, NOW)
    update(end=START + 100 * MINUTE)
    update(start=START + 150 * MINUTE, end=START + 300 * MINUTE)
    revised = START + 200 * MINUTE
    exchange.bars["AAAUSDT", "1m"][revised] = exchange.bar(revised, MINUTE, close=1.75)
    report = update(end=START + 400 * MINUTE)
    assert exchange.asked["klines"] == 1, "both holes lie within a thousand bars"
    [tally] = report.series
    assert (tally.asked, tally.received, tally.inserted) == (150, 300, 150)
    assert (tally.updated, tally.unchanged) == (1, 149)
    assert report.revisions.select("symbol", "open_time", "close_before", "close").rows() == [
        ("AAAUSDT", revised, 1.5, 1.75)
    ]
    stored = store.scan("1m", ["AAAUSDT"]).filter(pl.col("open_time") == revised).collect()
    assert stored["close"].item() == 1.75


def test_far_apart_holes_are_asked_for_one_by_one(exchange, update, store) -> None:
    exchange.fill("AAAUSDT", "1m", START, NOW)
    update(start=START + 5 * MINUTE, end=START + 2900 * MINUTE)
    update()
    assert exchange.rows_sent == 105
    assert exchange.asked["klines"] == 2


def test_an_unknown_symbol_does_not_stop_the_others(exchange, update, store) -> None:
    exchange.fill("AAAUSDT", "1m", START, NOW)
    exchange.fill("BBBUSDT", "1m", START, NOW)
    report = update("AAAUSDT", "AAAUSD", "BBBUSDT")
    [failure] = report.failures
    assert (failure.symbol, failure.interval) == ("AAAUSD", "1m")
    assert isinstance(failure.error, UnknownSymbolError)
    assert "AAAUSDT" in failure.error.remedy
    assert report.total("inserted") == 6000
    frame = report.to_frame()
    assert frame.filter(pl.col("failure").is_not_null())["symbol"].to_list() == ["AAAUSD"]
    with pytest.raises(UnknownSymbolError):
        update("AAAUSD", start=NOW - HOUR)


def test_progress_knows_its_end_from_the_start(exchange, serve, store) -> None:
    for symbol in ("AAAUSDT", "BBBUSDT"):
        exchange.fill(symbol, "1m", START, NOW, without=[START + 5 * MINUTE])
    seen = []
    ingest_sync(serve(exchange), store, ["AAAUSDT", "BBBUSDT"], ["1m"], start=START, progress=seen.append)
    assert {report.expected for report in seen} == {6000}
    assert [report.done for report in seen] == sorted(report.done for report in seen)
    assert (seen[0].done, seen[-1].done) == (0, 6000)
    assert seen[-1].rate > 0
    assert seen[-1].remaining_seconds == 0
