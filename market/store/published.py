"""Published panels: the newest bars as dense arrays in one file, which readers map into memory.

A published panel is derived, never the truth: it counts only while the store has the revision it was made at.
The file is written whole beside the old one and then put in its place, so that nobody ever sees half of it. It
is not forced onto the disk: it names the boot in which it was written, and counts in no other one.
"""

from __future__ import annotations

import json
import mmap
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from market.errors import MarketError
from market.intervals import interval_ms
from market.store.bars import VALUE_COLUMNS
from market.store.panel import Panel

LAYOUT_VERSION: Final = 1
"""Version of the file; a reader of another one does without the file."""

_MAGIC: Final = b"klinecast panel\n"
_ALIGNED: Final = 64
_ABANDONED_S: Final = 3_600
_BOOT_FILE: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Published:
    """A panel as its file holds it, with the revision of the interval that it shows and whose store that was."""

    panel: Panel
    revision: int
    store_id: str


class PublishedPanels:
    """The folder of published panels.

    Parameters
    ----------
    folder : Path
        ``home/panels``; it holds ``<interval>.panel``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, interval: str) -> Published | None:
        """Return the interval's panel, its arrays mapped and read-only; None where there is no sound one."""
        try:
            with (self.folder / f"{interval}.panel").open("rb") as stream:
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            return _parse(mapped, interval)
        except (OSError, ValueError, KeyError, TypeError):  # absent, cut short, or of another layout
            return None

    def write(self, published: Published, base: Panel | None = None) -> None:
        """Put a panel in the place of the interval's former one.

        Parameters
        ----------
        base : Panel, optional
            Rows that come before those of `published`: of the same symbols and columns.

        Raises
        ------
        MarketError
            If the file cannot be written.
        """
        interval = published.panel.interval
        staged = self.folder / f".{interval}-{os.getpid()}-{os.urandom(4).hex()}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._clear()
            try:
                with staged.open("wb") as stream:
                    _lay_out(stream, published, base)
                    if _boot() is None:
                        stream.flush()
                        os.fsync(stream.fileno())
                staged.replace(self.folder / f"{interval}.panel")
            finally:
                staged.unlink(missing_ok=True)
        except OSError as error:
            raise MarketError(
                f"the panel of {interval} cannot be published: {error.strerror or error}",
                where=str(error.filename or self.folder),
                remedy="free disk space or mend the folder; bars are read from the store meanwhile",
            ) from error

    def _clear(self) -> None:
        """Remove what publishers left that died while they wrote."""
        for path in self.folder.glob(".*.tmp"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()


def _lay_out(stream: BinaryIO, published: Published, base: Panel | None) -> None:
    panel = published.panel
    parts = [panel] if base is None else [base, panel]
    times = np.concatenate([part.open_time for part in parts])
    header = {
        "layout_version": LAYOUT_VERSION,
        "interval": panel.interval,
        "start_time": int(times[0]),
        "bars": len(times),
        "columns": list(panel.columns),
        "symbols": list(panel.symbols),
        "revision": published.revision,
        "store_id": published.store_id,
        "boot": _boot(),
    }
    text = json.dumps(header).encode()
    stream.write(_MAGIC + len(text).to_bytes(8, "little") + text)
    stream.write(bytes(-stream.tell() % _ALIGNED))
    for name in panel.columns:
        for part in parts:
            stream.write(np.ascontiguousarray(part.columns[name], "<f8").data)


def _parse(mapped: mmap.mmap, interval: str) -> Published | None:
    """Return what a mapped file holds; None where it is of another layout, interval, boot or size."""
    at = len(_MAGIC)
    size = int.from_bytes(mapped[at : at + 8], "little")
    if mapped[:at] != _MAGIC or size > len(mapped):
        return None
    header: dict[str, Any] = json.loads(mapped[at + 8 : at + 8 + size])
    if (header["layout_version"], header["interval"], header["boot"]) != (LAYOUT_VERSION, interval, _boot()):
        return None
    bars, symbols, names = header["bars"], tuple(header["symbols"]), header["columns"]
    start = at + 8 + size
    start += -start % _ALIGNED
    shape = (len(names), bars, len(symbols))
    if len(mapped) != start + 8 * shape[0] * shape[1] * shape[2]:
        return None
    values = np.frombuffer(mapped, "<f8", offset=start).reshape(shape)
    open_time = header["start_time"] + np.arange(bars, dtype=np.int64) * interval_ms(interval)
    panel = Panel(open_time, symbols, interval, dict(zip(names, values, strict=True)))
    return Published(panel, header["revision"], header["store_id"])


def _boot() -> str | None:
    """Return what names this boot of the machine, None where the system does not tell."""
    try:
        return _BOOT_FILE.read_text().strip()
    except OSError:
        return None


def part_of(
    panel: Panel, symbols: Sequence[str], start: int, end: int, columns: Sequence[str] = VALUE_COLUMNS
) -> Panel | None:
    """Return the bars of these symbols that open in [start, end); None where a panel does not hold all of that.

    Arrays are views of the panel's where the symbols are the same, in the same order.
    """
    step = interval_ms(panel.interval)
    if not len(panel.open_time) or not set(columns) <= set(panel.columns) or start > end:
        return None
    first = int(panel.open_time[0])
    rows = slice((start - first) // step, (end - first) // step)
    if (
        start < first
        or end > int(panel.open_time[-1]) + step
        or (start - first) % step
        or (end - first) % step
    ):
        return None
    dense = {name: panel.columns[name][rows] for name in columns}
    if tuple(symbols) != panel.symbols:
        place = {symbol: at for at, symbol in enumerate(panel.symbols)}
        if any(symbol not in place for symbol in symbols):
            return None
        chosen = [place[symbol] for symbol in symbols]
        dense = {name: np.take(values, chosen, axis=1) for name, values in dense.items()}
    return Panel(panel.open_time[rows], tuple(symbols), panel.interval, dense)
