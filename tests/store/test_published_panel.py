"""The published panel: the store's own bits, current or not taken at all, and never half of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from market.store import PANEL_COLUMNS, KlineStore, Panel, part_of, published, reading

MakeBars = Callable[..., pl.DataFrame]
T0, MINUTE, DAY = 1_700_006_400_000, 60_000, 86_400_000
SYMBOLS = ["A", "B", "C"]


def _same(a: Panel, b: Panel | None) -> bool:
    """Whether two panels are equal to the last bit, NaN and all."""
    return b is not None and (
        np.array_equal(a.open_time, b.open_time)
        and (a.symbols, a.interval, list(a.columns)) == (b.symbols, b.interval, list(b.columns))
        and all(
            np.ascontiguousarray(a.columns[name]).tobytes() == b.columns[name].tobytes() for name in a.columns
        )
    )


def test_what_is_published_is_what_the_store_holds(store: KlineStore, make_bars: MakeBars) -> None:
    """Hot and cold bars, gaps, unknown values and a symbol that is not stored."""
    bars = make_bars(SYMBOLS, start=T0 + DAY - 100 * MINUTE, count=200)
    holes = bars.filter(pl.col("open_time") % (7 * MINUTE) != 0, pl.col("symbol") != "C")
    store.write("1m", holes.with_columns(quote_volume=None).cast({"quote_volume": pl.Float64}))
    store.roll(T0 + DAY)
    asked = ["B", "never", "A"]
    assert store.published_panel("1m") is None
    store.publish_panel("1m", asked, 150)
    assert _same(store.panel("1m", asked, bars=150), store.published_panel("1m"))
    assert store.published_panel("5m") is None
    found = store.published_panel("1m")
    assert found is not None and not found.columns["close"].flags.writeable
    assert np.isnan(found.columns["close"]).any() and np.isnan(found.columns["close"][:, 1]).all()


def test_every_change_by_anyone_makes_it_stale(
    store: KlineStore, home: Path, database_url: str | None, make_bars: MakeBars
) -> None:
    bars = make_bars(SYMBOLS, count=1_500)
    early, late = bars.filter(pl.col("open_time") < T0 + DAY), bars.filter(pl.col("open_time") >= T0 + DAY)
    with KlineStore.open(home, database_url) as other:
        changes: list[Callable[[], object]] = [
            lambda: other.write("1m", early),
            lambda: other.write("1m", late),
            lambda: other.write("1m", late.with_columns(volume=pl.col("volume") + 1)),
            lambda: other.write("1m", make_bars(["D"], count=5_000), bulk=True),
            lambda: other.remove("1m", ["B"], T0 + 10 * MINUTE, T0 + 20 * MINUTE),
        ]
        seen = {store.revision("1m")}
        for change in changes:
            change()
            revision = store.revision("1m")
            assert revision == other.revision("1m") and revision > max(seen)
            seen.add(revision)
            assert store.published_panel("1m") is None
            other.publish_panel("1m", SYMBOLS, 2_000)
            assert _same(store.panel("1m", SYMBOLS, bars=2_000), store.published_panel("1m"))
        other.write("1m", late.with_columns(volume=pl.col("volume") + 1))  # what is stored already
        other.write("5m", make_bars(["A"], "5m"))
        other.roll(T0 + 30 * DAY)
        other.compact(T0 + 400 * DAY)
        assert store.revision("1m") == revision and store.published_panel("1m") is not None


def test_only_what_changed_is_read_again(
    store: KlineStore, make_bars: MakeBars, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was changed in between, the panel is the store's; the other bars come from the former file."""
    bars = make_bars(SYMBOLS, count=400)
    minute = (pl.col("open_time") - T0) // MINUTE
    store.write("1m", bars.filter(minute < 300))
    store.publish_panel("1m", SYMBOLS, 200)
    read: list[tuple[int, int]] = []
    look = reading.look

    def noted(*given: Any) -> reading.Snapshot:
        read.append(((given[4] - T0) // MINUTE, (given[5] - T0) // MINUTE))
        return look(*given)

    revised = pl.col("volume") + 1
    for frame, span in (
        (bars.filter(minute == 300), (300, 301)),  # a sweep
        (bars.filter(minute.is_between(301, 310)), (301, 311)),
        (bars.filter(minute == 250).with_columns(volume=revised), (250, 311)),  # the exchange revised a bar
        (bars.filter(minute == 20).with_columns(volume=revised), (311, 311)),  # one before the panel
        (bars.filter(minute == 399), (311, 400)),  # a jump over absent bars
    ):
        store.write("1m", frame)
        with monkeypatch.context() as patch:
            patch.setattr(reading, "look", noted)
            store.publish_panel("1m", SYMBOLS, 200)
        assert read.pop() == span
        assert _same(store.panel("1m", SYMBOLS, bars=200), store.published_panel("1m"))
    store.publish_panel("1m", ["C", "A"], 250)  # other symbols, more bars
    assert _same(store.panel("1m", ["C", "A"], bars=250), store.published_panel("1m"))


def test_a_part_is_the_store_s_own_panel_of_it_or_none(store: KlineStore, make_bars: MakeBars) -> None:
    store.write("1m", make_bars(SYMBOLS, count=100))
    store.publish_panel("1m", SYMBOLS, 80)
    whole = store.published_panel("1m")
    assert whole is not None
    end = T0 + 100 * MINUTE
    for symbols in (SYMBOLS, ["C", "A"]):
        for stop in (end, end - 7 * MINUTE):
            part = part_of(whole, symbols, stop - 50 * MINUTE, stop, ("close", "volume"))
            assert part is not None
            assert _same(store.panel("1m", symbols, bars=50, end=stop, columns=("close", "volume")), part)
            assert part.columns["close"].flags.c_contiguous
    assert part_of(whole, SYMBOLS, end - 81 * MINUTE, end) is None, "begins too late"
    assert part_of(whole, SYMBOLS, end - 50 * MINUTE, end + MINUTE) is None, "ends too early"
    assert part_of(whole, ["A", "D"], end - 50 * MINUTE, end) is None, "lacks a symbol"
    assert part_of(whole, SYMBOLS, end - 50 * MINUTE, end, ("close", "other")) is None, "lacks a column"


@pytest.mark.parametrize("fault", ["cut", "longer", "empty", "layout", "boot", "store", "noise", "interval"])
def test_a_file_that_is_not_sound_is_not_taken(
    home: Path, make_bars: MakeBars, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with KlineStore.open(home) as store:
        store.write("1m", make_bars(SYMBOLS))
        if fault == "layout":
            monkeypatch.setattr(published, "LAYOUT_VERSION", published.LAYOUT_VERSION + 1)
        if fault == "boot":
            monkeypatch.setattr(published, "_boot", lambda: "another boot of this machine")
        store.publish_panel("1m", SYMBOLS)
        monkeypatch.undo()
        file = home / "panels" / "1m.panel"
        data = file.read_bytes()
        damaged = {
            "cut": data[:-8],
            "longer": data + bytes(8),
            "empty": b"",
            "noise": os.urandom(len(data)),
            "store": data.replace(store._publisher._store_id.encode(), b"0" * 32),
            "interval": data.replace(b'"interval": "1m"', b'"interval": "1h"'),
        }.get(fault, data)
        file.write_bytes(damaged)
        assert store.published_panel("1m") is None
        store.publish_panel("1m", SYMBOLS)
        assert _same(store.panel("1m", SYMBOLS, bars=500), store.published_panel("1m"))


def test_what_a_dead_publisher_left_is_removed(home: Path, make_bars: MakeBars) -> None:
    with KlineStore.open(home) as store:
        store.write("1m", make_bars(SYMBOLS))
        (home / "panels").mkdir()
        old, young = home / "panels" / ".1m-1-ab.tmp", home / "panels" / ".1m-2-cd.tmp"
        for path in (old, young):
            path.write_bytes(b"half a pan")
        os.utime(old, (1, 1))
        store.publish_panel("1m", SYMBOLS)
        assert sorted(path.name for path in (home / "panels").iterdir()) == [young.name, "1m.panel"]


_PUBLISHER = """
import sys
from pathlib import Path
import numpy as np
from market.store import Panel
from market.store.published import Published, PublishedPanels

panels, symbols = PublishedPanels(Path(sys.argv[1])), tuple(f"S{i}" for i in range(100))
open_time = np.arange(500) * 60_000
for revision in range(1, 1_000_000):
    shape = (250 + revision % 250, 100)
    columns = {name: np.full(shape, float(revision)) for name in ("open", "close", "volume")}
    panels.write(Published(Panel(open_time[: shape[0]], symbols, "1m", columns), revision, "store"))
    if revision == 1:
        print("ready", flush=True)
"""


def test_a_reader_beside_a_publisher_never_sees_half_a_panel(tmp_path: Path) -> None:
    """Each publication is filled with its own number and has a size of its own."""
    publisher = subprocess.Popen(
        [sys.executable, "-c", _PUBLISHER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert publisher.stdout and publisher.stdout.readline() == "ready\n"
        panels, seen, reads = published.PublishedPanels(tmp_path), set(), 0
        end = time.monotonic() + 2
        while time.monotonic() < end or len(seen) < 20:
            found = panels.read("1m")
            assert found is not None and publisher.poll() is None
            for values in found.panel.columns.values():
                assert values.shape == (250 + found.revision % 250, 100)
                assert values.min() == values.max() == found.revision
            seen.add(found.revision)
            reads += 1
    finally:
        publisher.kill()
        publisher.communicate()
    assert reads >= len(seen) >= 20


def test_500_bars_of_500_symbols_are_read_in_milliseconds(home: Path, make_bars: MakeBars) -> None:
    """All values of nine columns are touched; the best of several, since the machine may be busy."""
    symbols = [f"S{i:03d}" for i in range(500)]
    with KlineStore.open(home) as store:
        store.write("1m", make_bars(symbols, count=500), bulk=True)
        store.publish_panel("1m", symbols)
        times = []
        for _ in range(15):
            begun = time.perf_counter()
            found = store.published_panel("1m")
            assert found is not None
            total = sum(float(found.columns[name].sum()) for name in PANEL_COLUMNS)
            times.append(time.perf_counter() - begun)
        assert found.columns["close"].shape == (500, 500) and np.isfinite(total)
        assert min(times) <= 0.005
        revisions = []
        for _ in range(50):
            begun = time.perf_counter()
            store.revision("1m")
            revisions.append(time.perf_counter() - begun)
        assert min(revisions) < 0.001
