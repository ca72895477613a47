"""The ledger names the kinds of sources that were asked for what is absent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from market.errors import MarketError
from market.store import GAP_SCHEMA, KlineStore

MINUTE = 60_000


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, home: Path) -> Iterator[KlineStore]:
    url = None if request.param == "sqlite" else request.getfixturevalue("empty_postgres")
    with KlineStore.open(home, url) as opened:
        yield opened


def gap(
    start: int, end: int, sources: str | None, *, cause: str = "outage", checked: int = 1
) -> pl.DataFrame:
    row = ("A", start * MINUTE, end * MINUTE, cause, checked)
    frame = pl.DataFrame([row], schema=GAP_SCHEMA, orient="row")
    return frame if sources is None else frame.with_columns(sources=pl.lit(sources))


def ledger(store: KlineStore) -> list[tuple[int, int, str]]:
    rows = store.gaps("1m", ["A"]).select("start_time", "end_time", "sources").rows()
    return [(start // MINUTE, end // MINUTE, sources) for start, end, sources in rows]


def test_sources_are_rest_unless_told_and_add_up_over_the_same_span(store: KlineStore) -> None:
    store.record_gaps("1m", gap(0, 10, None))
    store.record_gaps("1m", gap(20, 30, "archive"))
    assert ledger(store) == [(0, 10, "rest"), (20, 30, "archive")]
    store.record_gaps("1m", gap(0, 10, "archive", checked=2))
    store.record_gaps("1m", gap(22, 25, "rest"))
    assert ledger(store) == [
        (0, 10, "archive,rest"),
        (20, 22, "archive"),
        (22, 25, "archive,rest"),
        (25, 30, "archive"),
    ]
    assert store.gaps("1m", ["A"])["checked_time"][0] == 2


def test_a_span_that_was_only_partly_asked_for_does_not_claim_more(store: KlineStore) -> None:
    store.record_gaps("1m", gap(0, 10, "archive"))
    store.record_gaps("1m", gap(5, 15, "rest"))
    assert ledger(store)[-1] == (5, 15, "rest")


def test_what_is_left_of_a_healed_span_keeps_its_sources(store: KlineStore) -> None:
    store.record_gaps("1m", gap(0, 10, "archive,rest"))
    bar = {name: 1.0 for name in ("open", "high", "low", "close", "volume")}
    row = {"symbol": "A", "open_time": 4 * MINUTE, **bar, "close_time": None, "quote_volume": None}
    store.write("1m", pl.DataFrame([row | dict.fromkeys(("trades", "taker_buy_base", "taker_buy_quote"))]))
    assert ledger(store) == [(0, 4, "archive,rest"), (5, 10, "archive,rest")]


def test_a_gap_of_which_nobody_was_asked_is_refused(store: KlineStore) -> None:
    for nobody in ("", None):
        frame = gap(0, 10, "").with_columns(sources=pl.lit(nobody, dtype=pl.String))
        with pytest.raises(MarketError, match="name no source"):
            store.record_gaps("1m", frame)
    assert ledger(store) == []
