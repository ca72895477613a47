"""`klinecast remove` names what goes and asks; changed settings alone never remove anything."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from assets.klines_checks import KlinesChecksConfig, klines_checks
from assets.platform import Platform
from assets.settings import current_settings
from market.exchange.launch import RunningExchange, start_exchange
from market.store import KlineStore
from orchestration.cli.exit_codes import WRONG
from tests.quality.test_consistency import MINUTE, simulated


@pytest.fixture
def filled(klinecast):
    """A home with two hours of minutes of three symbols."""
    with KlineStore.open(klinecast.home) as store:
        store.write("1m", simulated()[0])
        store.write("5m", simulated()[1])
    return klinecast


def held(home: Path) -> dict[tuple[str, str], int]:
    with KlineStore.open(home) as store:
        rows = store.spans().select("symbol", "kline_interval", "rows").iter_rows()
        return {(symbol, interval): bars for symbol, interval, bars in rows}


WHOLE = {(f"S{n}", "1m"): 120 for n in range(3)} | {(f"S{n}", "5m"): 24 for n in range(3)}


def test_without_a_terminal_it_names_everything_and_refuses(filled) -> None:
    answer = filled("remove", "--interval", "1m")
    assert answer.code == 1
    assert "in all 360 bars of 3 symbols" in answer.out
    said = {tuple(line.split()[:2]) for line in answer.out.splitlines() if line.startswith(" S")}
    assert said == {("S0", "120"), ("S1", "120"), ("S2", "120")}
    assert "nobody can be asked" in answer.error
    assert "--yes" in answer.error
    assert held(filled.home) == WHOLE


def test_with_yes_it_removes_what_it_named_and_nothing_else(filled) -> None:
    with KlineStore.open(filled.home) as store:
        before = store.scan("1m").collect()
    answer = filled(
        *("remove", "--interval", "1m", "--symbols", "S0,S2", "--yes"),
        *("--start", "1970-01-01T00:30", "--end", str(60 * MINUTE)),
    )
    assert answer.code == 0
    assert "in all 60 bars of 2 symbols" in answer.out
    assert "1970-01-01 00:30:00 UTC  1970-01-01 01:00:00 UTC" in answer.out
    assert answer.out.endswith("removed 60 bars\n")
    gone = pl.col("symbol").is_in(["S0", "S2"]) & pl.col("open_time").is_between(30 * MINUTE, 59 * MINUTE)
    with KlineStore.open(filled.home) as store:
        assert store.scan("1m").collect().equals(before.filter(~gone))
        assert store.missing("S0", "1m", 0, 120 * MINUTE) == [(30 * MINUTE, 60 * MINUTE)]
    assert held(filled.home)["S1", "5m"] == 24


def test_one_bar_is_one_bar(filled) -> None:
    answer = filled("remove", "--interval", "5m", "--symbols", "S1", "--end", "300000", "--yes")
    assert "in all 1 bar of 1 symbol;" in answer.out
    assert "removed 1 bar\n" in answer.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--interval", "7m"), "'7m'"),
        (
            ("--interval", "1m", "--symbols", "S0,S9"),
            "1 symbol: S9\n  where: --symbols, of 1m bars\n  do: the",
        ),
        (("--interval", "1h"), "1 interval: 1h\n  where: --interval\n  do: the intervals here are 1m, 5m"),
        (("--interval", "1m", "--start", "yesterday"), "'yesterday' is no time"),
    ],
)
def test_what_cannot_be_meant_is_refused(filled, options: tuple[str, ...], said: str) -> None:
    answer = filled("remove", *options, "--yes")
    assert answer.code == WRONG
    assert said in answer.error
    assert held(filled.home) == WHOLE


def test_an_empty_span_is_said_to_be_empty(filled) -> None:
    answer = filled("remove", "--interval", "1m", "--start", "2030-01-01", "--yes")
    assert (answer.code, answer.out.startswith("nothing to remove")) == (0, True)


@pytest.mark.parametrize(("reply", "code", "left"), [("n", 1, WHOLE), ("y", 0, None)])
def test_in_a_terminal_it_asks(
    filled, reply: str, code: int, left: dict[tuple[str, str], int] | None
) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal:
        os.write(ours, f"{reply}\n".encode())
        answer = filled("remove", "--interval", "1m", stdin=terminal)
    os.close(ours)
    assert answer.code == code
    assert "remove 360 bars for good? [y/N]" in answer.out
    assert held(filled.home) == (left or {key: bars for key, bars in WHOLE.items() if key[1] == "5m"})


@pytest.fixture(scope="module")
def exchange() -> Iterator[RunningExchange]:
    with start_exchange(symbols=3, seed=3, now=1_735_700_000_000, speed=0, weight_limit=0) as running:
        yield running


def test_settings_changed_to_less_never_remove_anything(klinecast, exchange: RunningExchange) -> None:
    klinecast.set(EXCHANGE_URL=exchange.url, INTERVALS="1m,5m", HISTORY_BARS="1500", SYMBOLS="all")
    assert klinecast("run", "ingest").code == 0
    with KlineStore.open(klinecast.home) as store:
        before, spans = [store.scan(interval).collect() for interval in ("1m", "5m")], store.spans()
        absent = store.gaps()
    assert spans["rows"].to_list() == [1500] * 3 + [1498] * 3, "ten minutes were an outage"
    assert len(absent) == 3
    klinecast.set(HISTORY_BARS="500", SYMBOLS="BTCUSDT", INTERVALS="5m")
    assert klinecast("run", "ingest").code == 0
    with KlineStore.open(klinecast.home) as store:
        assert store.universe()["symbol"].to_list() == ["BTCUSDT"]
        assert store.spans().equals(spans)
        assert store.gaps().equals(absent)
        assert all(
            store.scan(name).collect().equals(bars) for name, bars in zip(("1m", "5m"), before, strict=True)
        )
    klinecast.set(INTERVALS="1m,5m")
    current_settings.cache_clear()
    results = {
        result.check_name: result
        for result in klines_checks(config=KlinesChecksConfig(agreement_days=7), platform=Platform())
    }
    current_settings.cache_clear()
    assert results["intervals_agree"].passed
    assert "| 5m against 1m | 897 | 0 |" in str(results["intervals_agree"].metadata["by_interval"].value)
