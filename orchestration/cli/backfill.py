"""`klinecast backfill`: the ingest job over a span of history, as one command."""

from __future__ import annotations

from typing import Any

from assets.choices import future_start, read_intervals, read_span, read_symbols
from assets.clock import latest_known_ms
from assets.settings import load_settings
from assets.source import on_loopback
from orchestration.cli.run import run_and_report


def run_backfill(start: str, end: str | None, symbols: str | None, intervals: str | None) -> int:
    """Run the ingest job from `start` on and tell how it went; returns the exit code.

    Nothing beyond the span is touched, and what is stored in it is not asked for again. What cannot be meant is
    refused before anything is loaded or asked.
    """
    first, last = read_span(start, end)
    wish: dict[str, Any] = {
        "start_time": first,
        "end_time": last,
        "symbols": read_symbols(symbols),
        "intervals": read_intervals(intervals),
    }
    settings = load_settings()
    now = latest_known_ms(settings.home)
    # The clock of an exchange on this machine may be anywhere: the job asks for it.
    if first is not None and first >= now and not on_loopback(settings.exchange_url or ""):
        raise future_start(first, now, "--start")
    config = {name: value for name, value in wish.items() if value is not None}
    chosen = None if symbols is None else ("klines",)  # the universe says which symbols where none are named
    wanted = {"ops": {"klines": {"config": config}}}
    return run_and_report("ingest", wanted, called="backfill", assets=chosen)
