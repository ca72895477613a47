"""A backfill stores what an ingest by REST alone would store, for less weight, whatever the archive host does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from market.archives import transfer
from market.archives.client import ArchiveClient
from market.archives.names import ArchiveMarket, daily, monthly
from market.backfill import BackfillReport, backfill
from market.client import SPOT, USD_M, ExchangeClient
from market.errors import MarketError
from market.exchange.launch import RunningExchange, start_exchange
from market.ingest import run_sync
from market.progress import Progress
from market.store import KlineStore

from .conftest import APRIL, DAY, JUNE, MARCH, MAY, FileHost, month_csv

SYMBOLS = ("BTCUSDT", "ETHUSDT")
QUARTER = 900_000
NOW = JUNE + 9 * DAY


def fill(
    store: KlineStore,
    exchange: str,
    archives: str | None,
    *,
    start: int = MARCH,
    symbols: Sequence[str] = SYMBOLS,
    intervals: Sequence[str] = ("15m",),
    market: ArchiveMarket = "spot",
    **options: Any,
) -> BackfillReport:
    async def work() -> BackfillReport:
        async with ExchangeClient(exchange, api=SPOT if market == "spot" else USD_M) as client:
            if archives is None:
                return await backfill(client, None, store, symbols, intervals, start=start, **options)
            async with ArchiveClient(archives, market=market, attempts=2) as files:
                return await backfill(client, files, store, symbols, intervals, start=start, **options)

    return run_sync(work)


def requests_of(exchange: RunningExchange, route: str) -> int:
    return exchange.info()["served"]["routes"].get(route, {"requests": 0})["requests"]


@pytest.fixture(scope="module")
def wanted(exchange: RunningExchange, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """What REST alone stores."""
    with KlineStore.open(tmp_path_factory.mktemp("rest")) as store:
        report = fill(store, exchange.url, None)
        assert report.archives.files == []
        return store.scan("15m").collect()


def test_the_same_bars_and_gaps_for_less_weight(
    served: RunningExchange, store: KlineStore, wanted: pl.DataFrame, tmp_path: Path
) -> None:
    heard: list[Progress] = []
    report = fill(store, served.url, served.url, progress=heard.append)
    assert [tally.outcome for tally in report.archives.files] == ["stored"] * 6, "three months of two symbols"
    assert report.inserted == wanted.height
    assert store.scan("15m").collect().equals(wanted)
    assert requests_of(served, "/data/") == 12
    ledger = store.gaps("15m")
    in_files = (pl.col("end_time") <= JUNE) & (pl.col("start_time") >= MARCH)
    assert ledger.filter(in_files)["sources"].unique().to_list() == ["archive,rest"]
    with KlineStore.open(tmp_path / "by REST") as other:
        served.reset_counters()
        by_rest = fill(other, served.url, None)
        drops = ("sources", "checked_time")
        assert ledger.drop(drops).equals(other.gaps("15m").drop(drops))
    assert report.ingest.weight < by_rest.ingest.weight / 2
    assert heard[-1].done == heard[-1].expected > wanted.height, "the bars, and what is ledgered as absent"
    assert [p.done for p in heard] == sorted(p.done for p in heard)
    served.reset_counters()
    again = fill(store, served.url, served.url)
    assert again.inserted == 0
    assert requests_of(served, "/data/") + requests_of(served, "/api/v3/klines") == 0
    assert store.verify() == []


def test_futures_files_with_their_header(served: RunningExchange, store: KlineStore, tmp_path: Path) -> None:
    options: dict[str, Any] = {"start": MAY, "symbols": ["SOLUSDT"], "market": "futures/um"}
    report = fill(store, served.url, served.url, **options)
    assert report.archives.total("inserted") > 2_900
    with KlineStore.open(tmp_path / "by REST") as other:
        fill(other, served.url, None, **options)
        assert store.scan("15m").collect().equals(other.scan("15m").collect())


@pytest.mark.parametrize(
    ("start", "interval"),
    [(NOW - 20 * DAY, "15m"), (MAY, "1h"), (MARCH, "1d"), (MARCH, "1w"), (JUNE + 3 * DAY, "1m")],
)
def test_no_file_is_asked_for_where_rest_is_cheaper(
    served: RunningExchange, store: KlineStore, start: int, interval: str
) -> None:
    report = fill(store, served.url, served.url, start=start, symbols=["BTCUSDT"], intervals=[interval])
    assert report.ingest.total("inserted") > 0
    assert requests_of(served, "/data/") == 0


def test_what_the_host_does_not_have_comes_by_rest(
    served: RunningExchange, host: FileHost, store: KlineStore, wanted: pl.DataFrame
) -> None:
    report = fill(store, served.url, host.url)
    assert report.archives.count("absent") == 6
    assert report.archives.failures == []
    assert store.scan("15m").collect().equals(wanted)
    assert all(file.absent for file in store.archives("15m"))
    asked = host.asked.total()
    fill(store, served.url, host.url)
    assert host.asked.total() - asked <= 2 * store.gaps("15m").height, "only about gaps, of single days"
    asked = host.asked.total()
    fill(store, served.url, host.url)
    assert host.asked.total() == asked, "nothing is asked twice"


@pytest.mark.parametrize("fault", ["wrong_checksum", "truncated_zip"])
def test_nothing_of_a_bad_file_is_stored_and_rest_brings_its_bars(
    served: RunningExchange, store: KlineStore, wanted: pl.DataFrame, fault: str
) -> None:
    served.add_fault(archive=fault, symbol="ETHUSDT", count=None)
    report = fill(store, served.url, served.url)
    assert {failure.path.split("/")[4] for failure in report.archives.failures} == {"ETHUSDT"}
    assert report.archives.count("failed") == 3
    assert report.archives.to_frame().filter(pl.col("failure").is_not_null()).height == 3
    assert {file.symbol for file in store.archives()} == {"BTCUSDT"}
    assert store.scan("15m").collect().equals(wanted)
    ledger = store.gaps("15m", ["ETHUSDT"]).filter(pl.col("end_time") <= JUNE)
    assert ledger["sources"].unique().to_list() == ["rest"]


def test_a_host_that_is_down_is_given_up_and_reported(
    served: RunningExchange, store: KlineStore, wanted: pl.DataFrame
) -> None:
    report = fill(store, served.url, "http://127.0.0.1:9")
    assert report.archives.host_failed
    assert report.archives.failures
    assert "cannot reach the archive host" in report.archives.failures[0].error.what
    assert store.scan("15m").collect().equals(wanted)


def test_refused_rows_go_to_quarantine_and_rest_is_asked(
    served: RunningExchange, host: FileHost, store: KlineStore
) -> None:
    """The host's May has one bad row and one bar of its own; everything else of May it does not have."""
    file = monthly("spot", "BTCUSDT", "15m", MAY)
    lines = month_csv(MAY, JUNE).splitlines()
    lines[10] = lines[10].replace(",9.5,", ",-9.5,")
    host.put(file, "\n".join(lines))
    report = fill(store, served.url, host.url, start=MAY, symbols=["BTCUSDT"])
    assert report.archives.total("refused") == 1
    kept = store.quarantined("15m").select("symbol", "open_time", "reason", "source")
    place = f"{host.url}/{file.path}"
    assert kept.rows() == [("BTCUSDT", MAY + 10 * QUARTER, "a volume or count is negative", place)]
    bars = store.scan("15m", ["BTCUSDT"], start=MAY, end=JUNE).collect()
    assert bars.height == 2_976
    assert bars.filter(pl.col("quote_volume") != 13.25)["open_time"].to_list() == [MAY + 10 * QUARTER], (
        "by REST"
    )


def test_gaps_are_looked_up_in_the_archive_once(
    served: RunningExchange, host: FileHost, store: KlineStore
) -> None:
    fill(store, served.url, None, symbols=["BTCUSDT"])
    gaps = store.gaps("15m").select("start_time", "end_time", "cause", "sources").rows()
    assert len(gaps) > 2
    assert {(cause, sources) for _, _, cause, sources in gaps} == {("outage", "rest")}
    start, end, *_ = gaps[0]
    day = daily("spot", "BTCUSDT", "15m", start)
    host.put(day, month_csv(day.start_time, day.end_time))
    before = store.scan("15m").collect()
    report = fill(store, served.url, host.url, symbols=["BTCUSDT"])
    assert report.archives.total("inserted") == (end - start) // QUARTER
    assert report.archives.total("updated") == 0, "what is stored stays: the file only closes the gap"
    healed = store.scan("15m", start=start, end=end).collect()
    assert healed["open_time"].to_list() == list(range(start, end, QUARTER))
    assert store.scan("15m").collect().join(before, on="open_time", how="anti").height == healed.height
    left = store.gaps("15m").select("start_time", "end_time", "cause", "sources").rows()
    assert left == [(a, b, cause, "archive,rest") for a, b, cause, _ in gaps[1:]]
    asked = host.asked.total()
    fill(store, served.url, host.url, symbols=["BTCUSDT"])
    assert host.asked.total() == asked


def test_a_rewritten_file_is_noticed_and_taken_anew(home: Path) -> None:
    """The older a file, the rarer its checksum is asked for; the bars that it revises are counted and listed."""
    with (
        start_exchange(symbols=1, seed=5, now=NOW, speed=0, weight_limit=0) as exchange,
        KlineStore.open(home) as store,
    ):
        options: dict[str, Any] = {"symbols": ["BTCUSDT"], "end": NOW}
        fill(store, exchange.url, exchange.url, **options)
        exchange.reset_counters()
        exchange.set_clock(NOW + 8 * DAY)
        fill(store, exchange.url, exchange.url, **options)
        assert requests_of(exchange, "/data/") == 0, "May was nine days old when it was taken"
        exchange.set_clock(NOW + 9 * DAY)
        report = fill(store, exchange.url, exchange.url, **options)
        assert [tally.outcome for tally in report.archives.files] == ["unchanged"]
        assert requests_of(exchange, "/data/") == 1
        exchange.add_fault(archive="rewritten", count=None)
        exchange.set_clock(NOW + 27 * DAY)
        report = fill(store, exchange.url, exchange.url, **options)
        (tally,) = report.archives.files
        assert (tally.outcome, tally.inserted, tally.updated) == ("rewritten", 0, 1)
        revised = report.archives.revisions.row(0, named=True)
        assert (revised["symbol"], revised["open_time"]) == ("BTCUSDT", MAY)
        assert revised["volume"] == pytest.approx(revised["volume_before"] + 1)
        (known,) = [file for file in store.archives("15m") if "2025-05" in file.path]
        assert (known.versions, known.stored_time) == (2, NOW + 27 * DAY)
        stored = store.scan("15m", start=MAY, end=MAY + 1).collect()
        assert stored["volume"].item() == revised["volume"]
        assert fill(store, exchange.url, exchange.url, **options).archives.files == []
        assert store.verify() == []


def test_a_rewritten_file_brings_no_removed_bars_back(home: Path) -> None:
    with (
        start_exchange(symbols=1, seed=5, now=NOW, speed=0, weight_limit=0) as exchange,
        KlineStore.open(home) as store,
    ):
        options: dict[str, Any] = {"symbols": ["BTCUSDT"], "end": JUNE}
        fill(store, exchange.url, exchange.url, start=MAY, **options)
        store.remove("15m", ["BTCUSDT"], MAY + DAY, MAY + 4 * DAY)
        left = store.spans()["rows"].sum()
        exchange.add_fault(archive="rewritten", count=None)
        exchange.set_clock(NOW + 30 * DAY)
        report = fill(store, exchange.url, exchange.url, start=MAY + 4 * DAY, **options)
        assert report.archives.files == [], "with the bars, the file was forgotten"
        assert store.spans()["rows"].sum() == left


def test_a_failing_store_ends_it_and_the_next_run_goes_on(
    served: RunningExchange, store: KlineStore, wanted: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the note that a file is being stored and its bars the disk fills up."""
    monkeypatch.setattr(transfer, "BATCH_ROWS", 1)
    real = KlineStore.write

    def full(self: KlineStore, *args: Any, **options: Any) -> Any:
        if self.spans()["rows"].sum() > 5_000:
            raise MarketError("the disk is full", where="here", remedy="make room")
        return real(self, *args, **options)

    with monkeypatch.context() as patch, pytest.raises(MarketError, match="disk is full"):
        patch.setattr(KlineStore, "write", full)
        fill(store, served.url, served.url)
    unfinished = [file.path for file in store.archives() if not file.done]
    assert len(unfinished) == 1
    assert 5_000 < store.spans()["rows"].sum() < 10_000
    served.reset_counters()
    report = fill(store, served.url, served.url)
    assert unfinished[0] in {tally.path for tally in report.archives.files}
    assert len(report.archives.files) == 4, "those that were stored are not asked for again"
    assert store.scan("15m").collect().equals(wanted)
    assert all(file.done for file in store.archives())


def test_interrupted_between_two_files(
    served: RunningExchange, store: KlineStore, wanted: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "BATCH_ROWS", 1)

    class StopError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.done > 5_000:
            raise StopError

    with pytest.raises(StopError):
        fill(store, served.url, served.url, progress=stop)
    assert 5_000 < store.spans()["rows"].sum() <= wanted.height
    fill(store, served.url, served.url)
    assert store.scan("15m").collect().equals(wanted)
    assert store.verify() == []


def test_a_longer_history_takes_the_earlier_months_alone(
    served: RunningExchange, store: KlineStore, wanted: pl.DataFrame
) -> None:
    fill(store, served.url, served.url, start=APRIL)
    served.reset_counters()
    fill(store, served.url, served.url, start=MARCH)
    assert requests_of(served, "/data/") == 4
    assert store.scan("15m").collect().equals(wanted)
