"""`klinecast backfill`: the ingest job over a span of history, as one command."""

from __future__ import annotations

from typing import Any

from assets.errors import SettingsError
from assets.removal import read_time
from orchestration.cli.run import run_and_report


def run_backfill(start: str, end: str | None, symbols: str | None, intervals: str | None) -> int:
    """Run the ingest job from `start` on and tell how it went; returns the exit code.

    Nothing beyond the span is touched, and what is stored in it is not asked for again.
    """
    first, last = read_time(start, "--start"), read_time(end, "--end")
    if first is not None and last is not None and first >= last:
        raise SettingsError(
            f"there is no time between {start} and {end}",
            where="--start and --end",
            remedy="give an end after the start, or leave it out: then the span ends now",
        )
    wish: dict[str, Any] = {
        "start_time": first,
        "end_time": last,
        "symbols": _names(symbols),
        "intervals": _names(intervals),
    }
    config = {name: value for name, value in wish.items() if value is not None}
    return run_and_report("ingest", {"ops": {"klines": {"config": config}}})


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
