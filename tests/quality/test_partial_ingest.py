"""An ingest of which a part failed: what came is kept, what did not is named, and nobody takes it for a whole one."""

from __future__ import annotations

import dagster as dg
import pytest

from assets.completeness import completeness
from assets.platform import Platform
from assets.settings import current_settings
from assets.source import claim_source
from assets.universe import universe
from market.errors import MarketError
from market.exchange.launch import start_exchange
from market.ingest_report import IngestReport, SeriesFailure, SeriesTally
from market.store import KlineStore
from orchestration.cli import run as running
from orchestration.cli.exit_codes import DONE, PARTLY
from tests.quality.test_consistency import simulated


def test_the_rest_is_stored_the_failure_named_and_the_exit_code_is_neither_zero_nor_one(klinecast) -> None:
    with start_exchange(symbols=2, seed=3, now="2025-06-10", speed=0) as exchange:
        klinecast.set(
            EXCHANGE_URL=exchange.url, SYMBOLS="BTCUSDT,ETHUSDT", INTERVALS="1h", HISTORY_BARS="500"
        )
        exchange.add_fault(status=400, symbol="ETHUSDT", path="/api/v3/klines", count=None)
        partly = klinecast("run", "ingest")
        assert partly.code == PARTLY, partly.error
        told = partly.error.partition("ingest brought everything but:\n")[2]
        assert told.startswith("  ETHUSDT 1h: ") and "BTCUSDT" not in told and "Traceback" not in partly.error
        with KlineStore.open(klinecast.home) as store:
            assert store.spans()["symbol"].to_list() == ["BTCUSDT"]
        assert _last_check(klinecast) == (False, dg.AssetCheckSeverity.WARN)


def test_a_symbol_that_is_gone_is_left_out_of_the_universe_and_named(klinecast) -> None:
    with start_exchange(symbols=2, seed=3, now="2025-06-10", speed=0) as exchange:
        klinecast.set(EXCHANGE_URL=exchange.url, SYMBOLS="BTCUSDT,S1", INTERVALS="1m")
        with KlineStore.open(klinecast.home) as store:
            store.write("1m", simulated()[0])
        current_settings.cache_clear()
        made = universe(dg.build_asset_context(), platform=Platform())
        current_settings.cache_clear()
    assert str(made.metadata["summary"]).endswith("; not listed any more, and left out: S1")
    with KlineStore.open(klinecast.home) as store:
        assert store.universe()["symbol"].to_list() == ["BTCUSDT"]
        assert "S1" in store.spans()["symbol"], "its bars stay"


@pytest.mark.parametrize("where", ["in files", "in a database"])
def test_an_interrupted_first_ingest_is_told_as_one(
    klinecast, request: pytest.FixtureRequest, where: str
) -> None:
    database = None
    if where == "in a database":
        database = request.getfixturevalue("empty_postgres")
        klinecast.set(DATABASE_URL=database)
    with KlineStore.open(klinecast.home, database) as store:
        claim_source(klinecast.home, "https://api.example")
        store.write("1m", simulated()[0])
    told = klinecast("status").out
    assert "the first ingest has not come to its end" in told and "fetches those that are missing" in told
    assert "ingested yet" not in told and "nothing is stored" not in told
    assert "first open time" in told, "the bars that are there are shown"
    assert klinecast("status", "--check").code == 1


def _last_check(klinecast) -> tuple[bool, dg.AssetCheckSeverity]:
    """Whether the check of the last run passed, as Dagster has it, and that run did not fail."""
    with dg.DagsterInstance.from_config(str(klinecast.home / "dagster")) as instance:
        (run,) = instance.get_runs(limit=1)
        assert run.status is dg.DagsterRunStatus.SUCCESS
        key = dg.AssetCheckKey(dg.AssetKey("klines"), "complete")
        (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        evaluation = record.event.dagster_event.asset_check_evaluation_data
        return evaluation.passed, evaluation.severity


def test_a_reason_that_intervals_share_is_told_once() -> None:
    def failure(symbol: str, interval: str, what: str) -> SeriesFailure:
        return SeriesFailure(symbol, interval, MarketError(what, where="there", remedy="try again"))

    failures = [
        failure("A", "1m", "no answer"),
        failure("A", "5m", "no answer"),
        failure("B", "1m", "cut off"),
    ]
    series = [SeriesTally(symbol, interval) for symbol in "ABC" for interval in ("1m", "5m")]
    result = completeness(IngestReport(1, series, failures))
    assert not result.passed and result.metadata["summary"].value == "3 of 6 series failed"
    assert result.metadata["did_not_come"].value == {
        "A 1m 5m": "no answer; try again",
        "B 1m": "cut off; try again",
    }
    assert completeness(IngestReport(1, series)).passed


def test_a_long_list_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert running._tell_missed("ingest", {f"S{at} 1m": "no answer" for at in range(100)}) == PARTLY
    said = capsys.readouterr().err.splitlines()
    assert said[-3:-1] == ["  S29 1m: no answer", "  and 70 more: check complete of klines in the UI"]
    assert running._tell_missed("ingest", {}) == DONE
