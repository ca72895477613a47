"""`klinecast gaps`, and what commands say of a home that holds nothing or whose database is elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from market.store import GAP_SCHEMA, KlineStore
from tests.quality.test_consistency import MINUTE, simulated

DAY = 1440 * MINUTE
GAPS = [
    ("S0", -DAY, 0, "before_listing", DAY),
    ("S0", 200 * MINUTE, 260 * MINUTE, "outage", DAY),
    ("S1", 200 * MINUTE, 260 * MINUTE, "outage", DAY),
    ("S1", 300 * MINUTE, 301 * MINUTE, "refused_rows", DAY),
]


@pytest.fixture
def with_gaps(klinecast):
    """A home with bars of three symbols, and a ledger."""
    with KlineStore.open(klinecast.home) as store:
        store.write("1m", simulated()[0].with_columns(pl.col("open_time", "close_time") + DAY))
        shifted = [(symbol, start + DAY, end + DAY, *rest) for symbol, start, end, *rest in GAPS]
        store.record_gaps("1m", pl.DataFrame(shifted, schema=GAP_SCHEMA, orient="row"))
        one = ("S1", 0, 300 * MINUTE, "outage", 2 * DAY)
        archive = pl.DataFrame([one], schema=GAP_SCHEMA, orient="row").with_columns(sources=pl.lit("archive"))
        store.record_gaps("5m", archive)
    return klinecast


def test_the_ledger_is_shown_by_symbol_and_interval(with_gaps) -> None:
    answer = with_gaps("gaps")
    lines = [" ".join(line.split()) for line in answer.out.splitlines()]
    assert answer.code == 0
    assert lines[1:6] == [
        "S0 1m 1970-01-01 00:00 1970-01-02 00:00 1,440 before_listing 1 rest 1970-01-02 00:00",
        "S0 1m 1970-01-02 03:20 1970-01-02 04:20 60 outage 2 rest 1970-01-02 00:00",
        "S1 1m 1970-01-02 03:20 1970-01-02 04:20 60 outage 2 rest 1970-01-02 00:00",
        "S1 1m 1970-01-02 05:00 1970-01-02 05:01 1 refused_rows 1 rest 1970-01-02 00:00",
        "S1 5m 1970-01-01 00:00 1970-01-01 05:00 60 outage 1 archive 1970-01-03 00:00",
    ]
    assert "outage             180 bars in 3 gaps of 3 series" in answer.out
    assert (
        "refused_rows       1 bar in 1 gap of 1 series: rows came, but they are in quarantine" in answer.out
    )


@pytest.mark.parametrize(
    ("options", "bars"),
    [
        ((), [1440, 60, 60, 1, 60]),
        (("--interval", "1m"), [1440, 60, 60, 1]),
        (("--symbol", "S1"), [60, 1, 60]),
        (("--symbol", "S0,S1", "--cause", "outage"), [60, 60, 60]),
        (("--limit", "1"), [1440]),
        (("--symbol", "S2"), []),
    ],
)
def test_the_ledger_as_json(with_gaps, options: tuple[str, ...], bars: list[int]) -> None:
    answer = with_gaps("gaps", "--json", *options)
    assert answer.code == 0
    found = json.loads(answer.out)
    assert [gap["bars"] for gap in found["gaps"]] == bars
    if not options:
        assert found["by_cause"][0] == {
            "kline_interval": "1m",
            "cause": "before_listing",
            "bars": 1440,
            "gaps": 1,
            "symbols": 1,
        }
        assert set(found["gaps"][0]) > {"start_time", "end_time", "checked_time", "sources"}


def test_few_of_many_gaps_are_the_largest(with_gaps) -> None:
    answer = with_gaps("gaps", "--limit", "2")
    assert "the 2 largest of 5 gaps" in answer.out
    assert "refused_rows       1 bar in 1 gap" in answer.out, "the totals are of all"


def test_no_gap_is_said_plainly(with_gaps) -> None:
    assert with_gaps("gaps", "--symbol", "S2").out.startswith("no gaps that match")
    with KlineStore.open(with_gaps.home) as store:
        for interval in ("1m", "5m"):
            store.remove(interval, ["S0", "S1"])
    assert with_gaps("gaps").out.startswith("no gaps: ")


def test_a_cause_or_interval_that_does_not_exist_is_refused(with_gaps) -> None:
    wrong = with_gaps("gaps", "--cause", "outrage")
    assert (wrong.code, "use one of: before_listing, outage" in wrong.error) == (2, True)
    assert "'7m'" in with_gaps("gaps", "--interval", "7m").error


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("status", "--check"),
        ("gaps",),
        ("predictions",),
        ("sql", "SELECT 1"),
        ("remove", "--interval", "1m"),
    ],
)
@pytest.mark.parametrize("there", [True, False])
def test_a_home_without_a_store_stays_as_it_is(klinecast, command: tuple[str, ...], there: bool) -> None:
    if not there:
        klinecast.home.rmdir()
    answer = klinecast(*command)
    assert answer.code == (0 if command == ("status",) else 1), "a status can be told of any home"
    assert "nothing is stored here yet" in answer.out + answer.error
    assert "klinecast run ingest" in answer.out + answer.error
    assert klinecast.home.exists() == there
    assert not there or not any(klinecast.home.iterdir())


def test_a_home_whose_bars_are_in_postgresql_is_not_given_an_sqlite_file(
    klinecast, empty_postgres: str
) -> None:
    with KlineStore.open(klinecast.home, empty_postgres) as store:
        store.write("1m", simulated()[0])
    for command in (("status",), ("gaps",), ("sql", "SELECT 1")):
        answer = klinecast(*command)
        assert answer.code == 1
        assert "set KLINECAST_DATABASE_URL" in answer.error
        assert not Path(klinecast.home / "klines.sqlite3").exists()
    klinecast.set(DATABASE_URL=empty_postgres)
    assert klinecast("gaps").out.startswith("no gaps")


def test_the_reasons_of_a_verdict_stay_in_their_column(with_gaps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = with_gaps("status").out.splitlines()
    reasons = lines[lines.index(next(line for line in lines if line.startswith("verdict"))) + 1 :]
    reasons = reasons[: next(at for at, line in enumerate(reasons) if line.startswith(" interval"))]
    assert len(reasons) > 1, "too long for one line of 80"
    assert all(line.startswith(" " * 10) and line[10] != " " for line in reasons)
