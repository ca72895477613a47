"""Which archive files there are: their paths, what each one spans, and when it is published."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args

from market.intervals import DAY_MS, MONTH, PROTOCOL_INTERVALS

ArchiveMarket = Literal["spot", "futures/um"]
Period = Literal["monthly", "daily"]

MICROSECONDS_FROM: Final = 1_735_689_600_000
"""Spot files of bars from 2025-01-01 on hold microseconds, all others milliseconds."""

_MONTH_NAME: Final = "1mo"  # what the archives call the protocol's 1M: file systems may ignore case
_PATH: Final = re.compile(
    r"/?data/(?P<market>spot|futures/um)/(?P<period>monthly|daily)/klines/(?P<symbol>[A-Z0-9_]{1,30})/"
    r"(?P<interval>1mo|[0-9]{1,2}[smhdw])/(?P=symbol)-(?P=interval)-(?P<date>\d{4}-\d{2}(?:-\d{2})?)\.zip\Z",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One archive file.

    Parameters
    ----------
    market : "spot" or "futures/um"
        Spot, or USD-M futures.
    period : "monthly" or "daily"
        What it spans.
    symbol, interval : str
        Whose bars.
    first_day : datetime.date
        The day, or the first of the month (UTC).
    """

    market: ArchiveMarket
    period: Period
    symbol: str
    interval: str
    first_day: dt.date

    @property
    def stem(self) -> str:
        """The name without its ending, which the zip and the CSV inside share."""
        date = self.first_day.isoformat()
        name = _MONTH_NAME if self.interval == MONTH else self.interval
        return f"{self.symbol}-{name}-{date if self.period == 'daily' else date[:7]}"

    @property
    def path(self) -> str:
        """Where it lies on the host, without a slash in front."""
        name = _MONTH_NAME if self.interval == MONTH else self.interval
        return f"data/{self.market}/{self.period}/klines/{self.symbol}/{name}/{self.stem}.zip"

    @property
    def zip_name(self) -> str:
        """Name of the zip."""
        return f"{self.stem}.zip"

    @property
    def csv_name(self) -> str:
        """Name of the one file in the zip."""
        return f"{self.stem}.csv"

    @property
    def start_time(self) -> int:
        """First ms of its span."""
        return _ms(self.first_day)

    @property
    def end_time(self) -> int:
        """First ms after its span."""
        return _ms(next_month(self.first_day)) if self.period == "monthly" else self.start_time + DAY_MS

    @property
    def published_time(self) -> int:
        """When the host gets it, ms: a day's file the next day, a month's on the first Monday after it."""
        if self.period == "daily":
            return self.end_time
        return _ms(first_monday(next_month(self.first_day)))

    @property
    def microseconds(self) -> bool:
        """Whether a file like this holds microseconds (the reader goes by what is in the file)."""
        return self.market == "spot" and self.start_time >= MICROSECONDS_FROM


def monthly(market: ArchiveMarket, symbol: str, interval: str, time_ms: int) -> ArchiveFile:
    """Return the monthly file that holds the bars that open at a time."""
    return ArchiveFile(market, "monthly", symbol, interval, day_of(time_ms).replace(day=1))


def daily(market: ArchiveMarket, symbol: str, interval: str, time_ms: int) -> ArchiveFile:
    """Return the daily file that holds the bars that open at a time."""
    return ArchiveFile(market, "daily", symbol, interval, day_of(time_ms))


def parse_path(path: str) -> ArchiveFile | None:
    """Return the file that a path on the host names, None if it names none."""
    match = _PATH.match(path)
    if match is None:
        return None
    period, date = match["period"], match["date"]
    interval = MONTH if match["interval"] == _MONTH_NAME else match["interval"]
    if interval not in PROTOCOL_INTERVALS or (len(date) == 10) != (period == "daily"):
        return None
    try:
        day = dt.date.fromisoformat(date if period == "daily" else f"{date}-01")
    except ValueError:
        return None
    market = next(name for name in get_args(ArchiveMarket) if name == match["market"])
    return ArchiveFile(market, "daily" if period == "daily" else "monthly", match["symbol"], interval, day)


def months(start_ms: int, end_ms: int) -> Iterator[int]:
    """Yield the start (ms) of every month that [start_ms, end_ms) touches."""
    first = day_of(start_ms).replace(day=1)
    while _ms(first) < end_ms:
        yield _ms(first)
        first = next_month(first)


def days(start_ms: int, end_ms: int) -> Iterator[int]:
    """Yield the start (ms) of every day that [start_ms, end_ms) touches."""
    yield from range(start_ms - start_ms % DAY_MS, end_ms, DAY_MS)


def day_of(time_ms: int) -> dt.date:
    """Return the day (UTC) of a time."""
    return dt.datetime.fromtimestamp(time_ms // 1_000, dt.UTC).date()


def next_month(day: dt.date) -> dt.date:
    """Return the first of the month after that of `day`."""
    return (day.replace(day=1) + dt.timedelta(days=32)).replace(day=1)


def first_monday(month: dt.date) -> dt.date:
    """Return the first Monday of the month of a day."""
    first = month.replace(day=1)
    return first + dt.timedelta(days=-first.weekday() % 7)


def _ms(day: dt.date) -> int:
    return int(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp()) * 1_000
