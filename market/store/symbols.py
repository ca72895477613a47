"""Symbols by number: a bar's key holds a small integer, and the name is looked up once."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from market.errors import MarketError
from market.store.database import Database, Transaction
from market.store.schema import SYMBOLS
from market.store.spans import SYMBOL_LIMIT


def require_text(symbols: Iterable[str]) -> None:
    """Refuse names that no database and no exchange can take.

    Raises
    ------
    MarketError
        If a name holds half a character (a lone surrogate), as a terminal makes of bytes that are no UTF-8.
    """
    for symbol in symbols:
        if any("\ud800" <= letter <= "\udfff" for letter in symbol):
            raise MarketError(
                f"{symbol!r} is no symbol: it holds bytes that are no UTF-8",
                where="symbols",
                remedy="write symbols as the exchange does, such as BTCUSDT",
            )


class SymbolBook:
    """The numbers of all symbols, remembered in this process: a number, once given, never changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def find(self, symbols: Iterable[str]) -> dict[str, int]:
        """Return the numbers of those symbols that the store knows."""
        wanted = list(dict.fromkeys(symbols))
        if new := [symbol for symbol in wanted if symbol not in self._ids]:
            require_text(new)
            self._refresh()
        return {symbol: self._ids[symbol] for symbol in wanted if symbol in self._ids}

    def ensure(self, symbols: Iterable[str]) -> dict[str, int]:
        """Return the numbers of symbols, giving numbers to new ones."""
        wanted = list(dict.fromkeys(symbols))
        if len(found := self.find(wanted)) == len(wanted):
            return found
        with self._database.write("symbols") as transaction:
            known = {name for (name,) in transaction.execute("SELECT symbol FROM symbols")}
            new = [symbol for symbol in wanted if symbol not in known]
            [(last,)] = transaction.execute("SELECT coalesce(max(symbol_id), -1) FROM symbols")
            if last + len(new) >= SYMBOL_LIMIT:
                raise MarketError(
                    f"the store holds {last + 1} symbols, no more than {SYMBOL_LIMIT} are possible",
                    where=self._database.where,
                    remedy="write only real symbols; use a home of its own for each exchange",
                )
            transaction.upsert(SYMBOLS, [(last + 1 + i, symbol) for i, symbol in enumerate(new)])
        return self.find(wanted)

    def names(self) -> dict[int, str]:
        """Return the name of every number, as of now."""
        self._refresh()
        return self._names

    def names_in(self, transaction: Transaction) -> dict[int, str]:
        """Return the name of every number that this transaction can see."""
        return dict(transaction.execute("SELECT symbol_id, symbol FROM symbols"))

    def _refresh(self) -> None:
        with self._database.read() as transaction:
            rows = transaction.execute("SELECT symbol, symbol_id FROM symbols")
        with self._lock:  # new dictionaries, so that readers in other threads never see one grow
            self._ids = dict(rows)
            self._names = {number: name for name, number in rows}
