"""Removing bars: all that tells of them goes, nothing else does, and they may come back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from market.errors import MarketError
from market.store import GAP_SCHEMA, KlineStore, RemovalReport, WriteResult, removal
from market.store.archived import ArchivedFile

MakeBars = Callable[..., pl.DataFrame]
T0, MINUTE, DAY = 1_700_006_400_000, 60_000, 86_400_000


@pytest.fixture
def bars(make_bars: MakeBars) -> pl.DataFrame:
    return make_bars(["A", "B", "C"], "5m", count=5 * 288)


@pytest.fixture
def filled(store: KlineStore, bars: pl.DataFrame) -> KlineStore:
    """Four days cold, the fifth hot with a revision of the first; a ledgered hour in front."""
    store.write("5m", bars)
    store.roll(T0 + 4 * DAY)
    store.write("5m", _revised(bars))
    gap = pl.DataFrame(
        [(s, T0 - 60 * MINUTE, T0, "outage", 1) for s in "ABC"], schema=GAP_SCHEMA, orient="row"
    )
    store.record_gaps("5m", gap)
    return store


def _revised(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.with_columns(volume=pl.when(pl.col("open_time") == T0).then(88.0).otherwise("volume"))


@pytest.mark.parametrize(
    ("start", "end", "cold_files"),
    [
        (None, None, 4),
        (T0 + DAY, T0 + 3 * DAY, 2),
        (T0 + 1, T0 + 2 * DAY + 7 * MINUTE, 3),
        (T0 + 4 * DAY + 60 * MINUTE, None, 0),
        (T0 - 30 * MINUTE, T0 + 5 * MINUTE, 1),
    ],
)
def test_all_of_a_span_goes_and_nothing_else(
    filled: KlineStore, bars: pl.DataFrame, start: int | None, end: int | None, cold_files: int
) -> None:
    first, stop = start or 0, end or T0 + 9 * DAY
    gone = pl.col("symbol").is_in(["A", "C"]) & pl.col("open_time").is_between(first, stop, closed="left")
    going, kept = _revised(bars).filter(gone), _revised(bars).filter(~gone)
    foretold = filled.would_remove("5m", ["C", "A", "unknown"], start, end)
    assert_frame_equal(filled.scan("5m").collect(), _revised(bars), check_exact=True)
    report = filled.remove("5m", ["C", "A", "unknown"], start, end)
    assert report == foretold
    assert (report.rows, report.files, report.symbols) == (going.height, cold_files, ("A", "C"))
    assert (report.start_time, report.end_time) == (
        going["open_time"].min(),
        int(going["open_time"].max()) + 5 * MINUTE,  # type: ignore[arg-type]
    )
    assert report.gaps == (2 if first < T0 else 0)
    assert_frame_equal(filled.scan("5m").collect(), kept, check_exact=True)
    assert filled.verify() == []
    ledger = {row["symbol"]: row["end_time"] for row in filled.gaps().iter_rows(named=True)}
    whole, cut = {"A": T0, "B": T0, "C": T0}, {"A": T0 - 30 * MINUTE, "B": T0, "C": T0 - 30 * MINUTE}
    assert ledger == (whole if first >= T0 else {"B": T0} if start is None else cut)
    assert (
        sum(b - a for a, b in filled.missing("A", "5m", T0, T0 + 5 * DAY)) == going.height // 2 * 5 * MINUTE
    )
    assert filled.remove("5m", ["A", "C"], start, end) == RemovalReport("5m", (), None, None, 0, 0, 0)
    assert filled.write("5m", _revised(bars)) == WriteResult(going.height, 0, kept.height)
    filled.roll(T0 + 5 * DAY)
    assert_frame_equal(filled.scan("5m").collect(), _revised(bars), check_exact=True)
    assert filled.verify() == []


def test_nothing_else_is_touched(
    filled: KlineStore, home: Path, bars: pl.DataFrame, make_bars: MakeBars
) -> None:
    hourly = make_bars(["A"], "1h", count=24)
    filled.write("1h", hourly)
    archive = ArchivedFile("x.zip", "A", "5m", T0, T0 + DAY, "ab", 288, 1, 1, 1)
    other = ArchivedFile("y.zip", "A", "5m", T0 + DAY, T0 + 2 * DAY, "cd", 288, 1, 1, 1)
    filled.write_archives([archive, other])
    revision = filled.revision("5m")
    before = set((home / "klines" / "5m").iterdir())
    filled.remove("5m", ["A"], T0, T0 + DAY)
    assert filled.revision("5m") != revision
    assert before < set((home / "klines" / "5m").iterdir()), "readers may still be at the old file"
    assert_frame_equal(filled.scan("1h").collect(), hourly)
    assert filled.archives("5m") == [other], "the archive is to be taken again"
    assert filled.remove("5m", [], None, None).rows == 0 and filled.remove("15m", ["A"]).rows == 0
    with pytest.raises(MarketError, match="unknown"):
        filled.remove("7m", ["A"])


def test_a_roll_and_a_writer_meanwhile(
    filled: KlineStore, bars: pl.DataFrame, make_bars: MakeBars, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored while the files are written anew goes too, if it lies in the span."""
    rewritten, rounds = removal._rewritten, []
    late = make_bars(["A"], "5m", start=T0 - 60 * MINUTE, count=12)

    def rewrite_while_others_work(*args: object) -> object:
        made = rewritten(*args)  # type: ignore[arg-type]
        rounds.append(made)
        work = {1: lambda: filled.roll(T0 + 5 * DAY), 2: lambda: filled.write("5m", late)}.get(len(rounds))
        if work:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        return made

    monkeypatch.setattr(removal, "_rewritten", rewrite_while_others_work)
    assert filled.remove("5m", ["A"]).rows == 5 * 288 + 12
    assert len(rounds) == 3
    assert_frame_equal(filled.scan("5m").collect(), _revised(bars).filter(pl.col("symbol") != "A"))
    assert filled.verify() == []


def test_a_roll_between_looking_and_swapping_keeps_its_bars(
    store: KlineStore,
    home: Path,
    database_url: str | None,
    make_bars: MakeBars,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = make_bars(["A", "B"], "1m", count=1_440)
    early = whole.filter((pl.col("symbol") == "A") | (pl.col("open_time") < T0 + 700 * MINUTE))
    store.write("1m", early)
    store.roll(T0 + DAY)
    store.write("1m", whole)  # the rest of B's day comes late
    rewritten = removal._rewritten
    with KlineStore.open(home, database_url) as other:

        def and_another_process_rolls(*arguments: object) -> object:
            made = rewritten(*arguments)  # type: ignore[arg-type]
            monkeypatch.setattr(removal, "_rewritten", rewritten)
            other.roll(T0 + DAY)
            return made

        monkeypatch.setattr(removal, "_rewritten", and_another_process_rolls)
        store.remove("1m", ["A"], T0, T0 + 60 * MINUTE)
    gone = (pl.col("symbol") == "A") & (pl.col("open_time") < T0 + 60 * MINUTE)
    assert_frame_equal(store.scan("1m").collect(), whole.filter(~gone), check_exact=True)
    assert store.verify() == []
