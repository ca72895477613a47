"""`klinecast backfill`: the ingest job over a span of history, as one command."""

from __future__ import annotations

from typing import Any

from assets.choices import future_start, read_intervals, read_span, read_symbols
from assets.clock import latest_known_ms
from assets.settings import Settings, load_settings
from assets.source import builtin_info, on_loopback
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
    now = _latest(settings)
    if first is not None and now is not None and first >= now:
        raise future_start(first, now, "--start")
    config = {name: value for name, value in wish.items() if value is not None}
    chosen = None if symbols is None else ("klines",)  # the universe says which symbols where none are named
    wanted = {"ops": {"klines": {"config": config}}}
    return run_and_report("ingest", wanted, called="backfill", assets=chosen)


def _latest(settings: Settings) -> int | None:
    """Return a time that the exchange's clock has not passed, ms; None where only the job can ask for it.

    The clock of an exchange on this machine may be anywhere; a built-in one says where.
    """
    url = settings.exchange_url or ""
    if not on_loopback(url):
        return latest_known_ms(settings.home)
    told = (builtin_info(url) or {}).get("now_ms")
    return told if isinstance(told, int) else None
