"""Where bulk archives come from, and what a person sees of what was taken from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from assets.metadata import table
from assets.settings import OFF, Settings
from assets.source import builtin_info
from market.sources.ccxt_names import is_ccxt
from market.wording import count

if TYPE_CHECKING:
    from market.archives.report import TransferReport

_BINANCE: Final = ("binance.vision", "binance.com")
_BINANCE_ARCHIVE: Final = "https://data.binance.vision"


def archive_host(settings: Settings, exchange_url: str) -> str | None:
    """Return the base URL of the archives of an exchange's bars, None where there is none or they are turned off.

    The built-in exchange serves its own; Binance's hosts share one; for any other host a setting must name it. What is
    reached through ccxt has other names and other bars than any archive.
    """
    if is_ccxt(exchange_url):
        return None
    if settings.archive_url is not None:
        return None if settings.archive_url == OFF else settings.archive_url
    if builtin_info(exchange_url) is not None:
        return exchange_url
    host = urlsplit(exchange_url).hostname or ""
    ours = any(host == name or host.endswith(f".{name}") for name in _BINANCE)
    return _BINANCE_ARCHIVE if ours else None


def archive_metadata(files: TransferReport) -> dict[str, Any]:
    """Return what a materialisation tells about archive files; nothing where none was asked for."""
    if not files.files:
        return {}
    frame = files.to_frame()
    return {
        "archive_files": files.count("stored", "rewritten"),
        "archive_files_rewritten": files.count("rewritten"),
        "archive_files_not_there": files.count("absent"),
        "rows_from_archives": files.total("inserted"),
        "archives": table(frame.sort("inserted", descending=True)),
        "archive_failures": table(frame.drop_nulls("failure").select("path", "failure")),
    }


def archive_summary(files: TransferReport) -> str:
    """Return what a summary tells of archive files, in brackets; nothing where none was stored and none failed."""
    told = []
    if taken := files.count("stored", "rewritten"):
        told.append(_taken(files.total("inserted"), taken))
    if failed := len(files.failures):
        told.append(f"{count(failed, 'archive file')} failed")
    return f" ({', '.join(told)})" if told else ""


def _taken(bars: int, files: int) -> str:
    """Tell what files brought; those in which gaps were looked up may have brought nothing."""
    looked_up = count(files, "archive file")
    return f"{bars:,} from {looked_up}" if bars else f"nothing new in {looked_up} that may fill gaps"
