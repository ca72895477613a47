"""Publishing the newest bars as a panel, and taking a published one only while it is what the store holds."""

from __future__ import annotations

from collections.abc import Sequence

from market.intervals import interval_ms
from market.store import coverage, panel, reading, revision
from market.store.cold import ColdFiles
from market.store.database import Database, Transaction
from market.store.panel import Panel
from market.store.published import Published, PublishedPanels, part_of
from market.store.symbols import SymbolBook


class Publisher:
    """Publishes panels of one store and judges whether they are current.

    Parameters
    ----------
    panels : PublishedPanels
        Where they lie.
    """

    def __init__(
        self, database: Database, book: SymbolBook, files: ColdFiles, panels: PublishedPanels
    ) -> None:
        self._database, self._book, self._files, self._panels = database, book, files, panels
        self._store_id = ""

    def publish(self, interval: str, symbols: Sequence[str], bars: int, columns: Sequence[str]) -> None:
        """Publish the last `bars` bars of these symbols; only those changed since are read from the store."""
        panel.check_request(symbols, columns)
        ids = self._book.find(symbols)
        chosen = list(ids.values())
        before = self._panels.read(interval)
        with self._database.read() as transaction:
            now, store_id = revision.current(transaction, interval), self._store(transaction)
            extent = coverage.extent(transaction, interval, chosen)
            start, end = panel.resolve_span(interval, None, None, bars, extent)
            base = None
            if before is not None and before.store_id == store_id:
                held = int(before.panel.open_time[-1]) + interval_ms(interval)
                same = min(held, end, revision.same_until(transaction, interval, before.revision, start))
                base = part_of(before.panel, symbols, start, same, columns) if same > start else None
            first = start if base is None else start + len(base.open_time) * interval_ms(interval)
            snapshot = reading.look(transaction, self._book, interval, chosen, first, end)
        rest = panel.fill(snapshot, self._files, symbols, ids, columns)
        if len(rest.open_time) or base is not None:
            self._panels.write(Published(rest, now, store_id), base)

    def current(self, interval: str) -> Panel | None:
        """Return the published panel if the store still has the revision it shows."""
        found = self._panels.read(interval)
        if found is None:
            return None
        with self._database.read() as transaction:
            same = found.store_id == self._store(transaction)
            return found.panel if same and found.revision == revision.current(transaction, interval) else None

    def _store(self, transaction: Transaction) -> str:
        """Return the store's id, which never changes."""
        if not self._store_id:
            [(self._store_id,)] = transaction.execute("SELECT value FROM store_meta WHERE name = 'store_id'")
        return self._store_id
