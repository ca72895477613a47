"""The checks of asset `klines`: what is wrong is found, in batches as in one go."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets.clock import record_clock
from assets.klines_checks import KlinesChecksConfig, klines_checks
from assets.platform import Platform
from assets.settings import current_settings
from assets.store_checks import intact
from market.store import GAP_SCHEMA, KlineStore
from orchestration.definitions import defs as platform_location
from tests.quality.test_consistency import END, MINUTE, simulated

DAY = 1440 * MINUTE
T = 1_704_067_200_000  # 2024-01-01 00:00


@pytest.fixture
def store(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KlineStore]:
    """Three symbols on two intervals, on the first of January 2024."""
    for name in [name for name in os.environ if name.startswith("KLINECAST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KLINECAST_HOME", str(home))
    monkeypatch.setenv("KLINECAST_INTERVALS", "1m,5m")
    current_settings.cache_clear()
    record_clock(home, T + END, 0.0)
    finer, longer = (bars.with_columns(pl.col("open_time", "close_time") + T) for bars in simulated())
    with KlineStore.open(home) as opened:
        opened.write("1m", finer)
        opened.write("5m", longer)
        yield opened
    current_settings.cache_clear()


def checked(**config: int) -> dict[str, tuple[bool, int, dict[str, Any]]]:
    """Run the checks; returns whether each passed, how much is wrong, and its tables as text."""
    return {
        str(result.check_name): (
            bool(result.passed),
            int(result.metadata["wrong"].value),
            {name: str(value.value) for name, value in result.metadata.items()},
        )
        for result in klines_checks(config=KlinesChecksConfig(**config), platform=Platform())
    }


def test_a_sound_store_passes(store: KlineStore) -> None:
    found = checked()
    assert {name: (passed, wrong) for name, (passed, wrong, _) in found.items()} == dict.fromkeys(
        ("no_duplicates", "in_order", "sane_prices", "known_gaps", "fresh", "intervals_agree"), (True, 0)
    )
    assert "| 1m | 360 | 0 |" in found["sane_prices"][2]["by_interval"]
    assert "| 5m against 1m | 72 | 0 |" in found["intervals_agree"][2]["by_interval"]


def test_a_changed_minute_is_told_with_both_values(store: KlineStore) -> None:
    minute = store.scan("1m", ["S2"], T + 50 * MINUTE, T + 51 * MINUTE).collect()
    store.write("1m", minute.with_columns(pl.col("trades") + 1))
    passed, wrong, tables = checked()["intervals_agree"]
    assert (passed, wrong) == (False, 1)
    stored = store.scan("5m", ["S2"], T + 50 * MINUTE, T + 51 * MINUTE).collect()["trades"].item()
    assert (
        f"| S2 | 5m | 2024-01-01 00:50:00 UTC | 1m | trades | {stored} | {stored + 1} |"
        in tables["differences"]
    )


def test_only_the_recent_part_is_held_against_each_other(store: KlineStore, home: Path) -> None:
    minute = store.scan("1m", ["S2"], T + 50 * MINUTE, T + 51 * MINUTE).collect()
    store.write("1m", minute.with_columns(pl.col("trades") + 1))
    record_clock(home, T + DAY + 60 * MINUTE, 0.0)
    assert checked()["intervals_agree"][:2] == (True, 0)
    assert checked(agreement_days=2)["intervals_agree"][:2] == (False, 1)


def test_a_gap_that_nobody_knows_of_is_found_and_a_ledgered_one_shown(store: KlineStore) -> None:
    store.remove("1m", ["S1"], T + 30 * MINUTE, T + 40 * MINUTE)
    passed, wrong, tables = checked()["known_gaps"]
    assert (passed, wrong) == (False, 10)
    assert "S1 from 2024-01-01 00:30:00 UTC" in tables["by_interval"]
    gap = ("S1", T + 30 * MINUTE, T + 40 * MINUTE, "outage", T + DAY)
    store.record_gaps("1m", pl.DataFrame([gap], schema=GAP_SCHEMA, orient="row"))
    passed, wrong, tables = checked()["known_gaps"]
    assert (passed, wrong) == (True, 0)
    assert tables["missing_bars"] == "10"
    assert "| 1m | outage | 10 | 1 | 1 |" in tables["by_cause"]
    assert (
        "| S1 | 1m | 2024-01-01 00:30:00 UTC | 2024-01-01 00:40:00 UTC | 10 | outage | 1 | rest |"
        in tables["largest_gaps"]
    )


def test_a_minute_that_may_still_come_is_no_gap_yet(store: KlineStore, home: Path) -> None:
    store.remove("1m", ["S1"], T + END - 3 * MINUTE, T + END - 2 * MINUTE)
    assert checked()["known_gaps"][:2] == (True, 0)
    record_clock(home, T + END + 5 * MINUTE, 0.0)
    assert checked()["known_gaps"][:2] == (False, 1)


def test_batches_of_symbols_find_the_same(store: KlineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.remove("1m", ["S0"], T + 30 * MINUTE, T + 40 * MINUTE)
    store.write("5m", store.scan("5m", ["S1"]).collect().with_columns(pl.col("trades") + 1))
    whole = checked()
    monkeypatch.setattr("assets.klines_checks._BARS_AT_ONCE", 100)
    monkeypatch.setattr("market.consistency._BARS_AT_ONCE", 100)
    assert json.dumps(checked()) == json.dumps(whole)
    assert (whole["known_gaps"][1], whole["intervals_agree"][1]) == (10, 24)


def test_days_bound_what_is_read(store: KlineStore, home: Path) -> None:
    record_clock(home, T + DAY + 60 * MINUTE, 0.0)
    assert "| 1m | 180 | 0 |" in checked(days=1)["sane_prices"][2]["by_interval"], "the last hour of three"


def test_who_is_not_traded_or_followed_any_more_is_not_stale(store: KlineStore, home: Path) -> None:
    record_clock(home, T + END + DAY, 0.0)
    assert checked()["fresh"][:2] == (False, 6)
    universe = pl.DataFrame(
        {
            "symbol": ["S0", "S1"],
            "base_asset": ["S0", "S1"],
            "quote_asset": ["", ""],
            "status": ["TRADING", "BREAK"],
            "quote_volume_24h": [2.0, 1.0],
            "rank": [1, 2],
        }
    )
    store.write_universe(universe)
    passed, wrong, tables = checked()["fresh"]
    assert (passed, wrong) == (False, 2), "S0 on both intervals"
    assert "S0 ends at" in tables["by_interval"] and "S1" not in tables["by_interval"]


def test_a_bit_that_a_disk_has_changed_is_found_by_verify_alone(store: KlineStore, home: Path) -> None:
    sound = intact(platform=Platform())
    assert sound.passed and sound.metadata["faults"].value == 0
    assert str(sound.metadata["summary"].value) == "all 432 bars are as they were written"
    store.roll(T + DAY)
    [file] = (home / "klines" / "5m").glob("*.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    damaged = intact(platform=Platform())
    assert not damaged.passed
    assert file.name in str(damaged.metadata["summary"].value)
    steps = {
        job: {node.name for node in platform_location.resolve_job_def(job).graph.nodes}
        for job in ("ingest", "verify")
    }
    assert len(steps["verify"]) == 1 and not steps["verify"] & steps["ingest"], (
        "it reads all: not every minute"
    )
