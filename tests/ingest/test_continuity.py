"""Bars that open far from the close before them are stored and told, within a page, across pages and across runs."""

from __future__ import annotations

import logging
from collections.abc import Callable

import polars as pl
import pytest

from market.continuity import Continuity
from market.ingest import ingest_sync
from market.intervals import DAY_MS
from market.store import KlineStore

MINUTE = 60_000


@pytest.mark.parametrize("at", [700, 1000, 1500], ids=["within a page", "across pages", "across runs"])
def test_a_jump_is_stored_counted_and_told(
    scripted, serve: Callable[..., str], store: KlineStore, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    start = scripted.now - 2_000 * MINUTE
    for symbol in ("AAAUSDT", "BBBUSDT"):
        scripted.fill(symbol, "1m", start, scripted.now)
    for later in range(start + at * MINUTE, scripted.now, MINUTE):
        row = scripted.bars["BBBUSDT", "1m"][later]
        scripted.bars["BBBUSDT", "1m"][later] = [
            later,
            *(str(float(price) * 10) for price in row[1:5]),
            *row[5:],
        ]
    url = serve(scripted)
    with caplog.at_level(logging.WARNING):
        first = ingest_sync(
            url, store, ["AAAUSDT", "BBBUSDT"], ["1m"], start=start, end=start + 1_500 * MINUTE
        )
        second = ingest_sync(url, store, ["AAAUSDT", "BBBUSDT"], ["1m"], start=start)
    assert first.failures == second.failures == []
    assert store.scan("1m").collect().height == 4_000
    jumps = [
        (tally.symbol, tally.jumps) for report in (first, second) for tally in report.series if tally.jumps
    ]
    assert jumps == [("BBBUSDT", 1)]
    assert "BBBUSDT 1m: 1 bars open far from the close" in caplog.text


def test_after_a_gap_nothing_is_compared(scripted, serve: Callable[..., str], store: KlineStore) -> None:
    start = scripted.now - 100 * MINUTE
    scripted.fill("AAAUSDT", "1m", start, scripted.now, without=[start + 50 * MINUTE])
    for later in range(start + 51 * MINUTE, scripted.now, MINUTE):
        row = scripted.bars["AAAUSDT", "1m"][later]
        scripted.bars["AAAUSDT", "1m"][later] = [
            later,
            *(str(float(price) * 10) for price in row[1:5]),
            *row[5:],
        ]
    assert ingest_sync(serve(scripted), store, ["AAAUSDT"], ["1m"], start=start).total("jumps") == 0


def test_batches_of_one_run_are_compared_however_far_apart_their_symbols_are(store: KlineStore) -> None:
    def bars(symbol: str, at: int, price: float) -> pl.DataFrame:
        prices = dict.fromkeys(("open", "high", "low", "close"), price)
        return pl.DataFrame({"symbol": symbol, "open_time": at, **prices})

    continuity = Continuity(store, "1m")
    far = 3 * DAY_MS
    assert continuity.count_jumps(pl.concat([bars("AAAUSDT", 0, 7.0), bars("BBBUSDT", far, 7.0)])) == {}
    after = [bars("AAAUSDT", MINUTE, 7.1), bars("BBBUSDT", far + MINUTE, 70.0)]
    assert continuity.count_jumps(pl.concat(after)) == {"BBBUSDT": 1}
    assert continuity.count_jumps(bars("BBBUSDT", far + 3 * MINUTE, 7.0)) == {}, "not the one right before"
    assert continuity.count_jumps(after[0].clear()) == {}
