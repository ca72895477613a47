"""The ingestion benchmark runs through its entry point, compares contents by itself and prints sound figures."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SMALL = (
    *("rest.symbols=2", "rest.bars=2000", "rest.short_bars=1000", "rest.rounds=1"),
    *("archives.symbols=1", "archives.rounds=1"),
    *("scans.symbols=3", "scans.days=31", "scans.rounds=1"),
    *(
        "growth.few=2",
        "growth.many=4",
        "growth.steady=2",
        "growth.days=3",
        "growth.many_days=6",
        "growth.repeats=1",
    ),
    *("savings.symbols=1", "savings.hours=2"),
    *("hot_stores.symbols=20", "hot_stores.bars=30", "upsert.sweeps=3", "panel.bars=20", "panel.repeats=2"),
)


@pytest.fixture(scope="module")
def figures() -> Iterator[dict]:
    with tempfile.TemporaryDirectory(prefix="klinecast-bench-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user where the tests run as root
        yield _measured(Path(folder) / "scratch", Path(folder) / "page.md")


def _measured(scratch: Path, page: Path) -> dict:
    command = [sys.executable, "-m", "benchmarks.ingestion", "--quick", "--json", "--scratch", str(scratch)]
    answer = subprocess.run(
        [*command, "--write", str(page), "--set", *SMALL],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert list(scratch.iterdir()) == [], "the benchmark left something behind"
    return {**found, "page": page.read_text()}


@pytest.mark.parametrize(
    "name",
    [
        "rest_rows_per_s",
        "rest_ratio_ccxt",
        "rest_ratio_freqtrade_way",
        "rest_short_ratio_ccxt",
        "archive_rows_per_s",
        "upsert_sqlite_ms_p50",
        "upsert_postgres_ms_p50",
        "scan_rows_per_s",
        "bytes_per_row",
        "bars_saved_share",
        "weight_saved_share",
        "panel_500x500_ms",
        "published_panel_ms",
        "growth_symbols_scan",
        "growth_history_write",
    ],
)
def test_a_promised_figure_is_there_and_positive(figures, name):
    assert math.isfinite(figures[name])
    assert figures[name] > 0


def test_no_figure_is_anything_but_a_finite_number_or_text(figures):
    plain = {name: value for name, value in figures.items() if not isinstance(value, (str, dict, bool))}
    assert len(plain) > 80
    assert [name for name, value in plain.items() if not math.isfinite(value) or value < 0] == []


def test_everything_asked_for_was_fetched_and_stored(figures):
    outage = 2 * 2000 - figures["rest_rows"]
    assert 0 <= outage < 200
    assert figures["rest_pages"] == 4
    assert figures["archive_rows"] == pytest.approx(30 * 1440, rel=0.01)
    assert figures["scan_rows"] == 3 * 31 * 1440


def test_savings_are_what_the_exchange_counts(figures):
    assert figures["refetch_bars"] == 1440 * 3 * 100
    assert figures["refetch_weight"] == 1440 * 3 * 2
    bars_a_day = 1440 + 288 + 96  # those of 5m and 15m are asked for once, to confirm what was derived
    assert bars_a_day * 0.95 <= figures["savings_bars"] <= bars_a_day * 1.2
    assert figures["bars_saved_share"] == 1 - figures["savings_bars"] / figures["refetch_bars"]


def test_targets_stand_beside_the_values_and_on_the_page(figures):
    assert figures["targets"]["bytes_per_row"] == {"target": "<= 40", "met": figures["bytes_per_row"] <= 40}
    assert "| `rest_rows_per_s` |" in figures["page"]
    assert f"| {figures['machine']['file_system']} |" in figures["page"]


def test_a_mistyped_size_is_refused():
    command = [sys.executable, "-m", "benchmarks.ingestion", "--only", "growth", "--set", "growth.day=2"]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert answer.returncode != 0
    assert "give PART.SIZE=N" in answer.stderr
