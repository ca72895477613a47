"""The settings, the store, the exchange and the clock of one KLINECAST_HOME, for assets and commands alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assets.clock import recorded_clock
from assets.errors import NotMadeYetError
from assets.exchange_process import exchange_for
from assets.settings import Settings, current_settings
from assets.source import claimed_source
from assets.state_files import require_home
from market.store import VIEWS, KlineStore

__all__ = ["VIEWS", "Home"]


class Home:
    """One home. It holds nothing of its own: everything comes from the settings (``KLINECAST_*``)."""

    @property
    def settings(self) -> Settings:
        """The settings of this process."""
        return current_settings()

    @property
    def home(self) -> Path:
        """The folder of all state, there and writable."""
        return require_home(self.settings.home)

    @contextmanager
    def store(self) -> Iterator[KlineStore]:
        """Open the klines store."""
        settings = self.settings
        with KlineStore.open(self.home, settings.database, objects_url=settings.objects_url) as store:
            yield store

    def holds_store(self) -> bool:
        """Tell whether this home has a klines store, without making anything."""
        home = self.settings.home
        here = (home / "klines.sqlite3").is_file() or (home / "klines" / "store.json").is_file()
        # A database is not asked: the first ingest claims its source once the tables are there, before it fetches.
        return here or (self.settings.database is not None and claimed_source(home) is not None)

    @contextmanager
    def existing_store(self) -> Iterator[KlineStore]:
        """Open the klines store for a question; a home that has none stays as it is.

        Raises
        ------
        NotMadeYetError
            Before the first ingest.
        """
        if not self.holds_store():
            raise NotMadeYetError(
                "nothing is stored here yet",
                where=f"KLINECAST_HOME = {self.settings.home}",
                remedy="fetch bars with klinecast run ingest, or set KLINECAST_HOME to the folder that holds them",
            )
        with self.store() as store:
            yield store

    @contextmanager
    def exchange(self) -> Iterator[str]:
        """Give the base URL of the exchange, starting the built-in one where none is configured or running."""
        _ = self.home
        with exchange_for(self.settings) as url:
            yield url

    def now_ms(self) -> int:
        """Return the exchange's time, carried on from the last ingest.

        Raises
        ------
        NotMadeYetError
            Before the first ingest has come to its end.
        """
        clock = recorded_clock(self.settings.home)
        if clock is None:
            raise NotMadeYetError(
                "no ingest has come to its end here yet",
                where=f"KLINECAST_HOME = {self.settings.home}",
                remedy="materialise `universe` and `klines` first: klinecast run ingest fetches what is missing",
            )
        return clock.now_ms()

    def tracked_symbols(self, store: KlineStore) -> tuple[str, ...]:
        """Return the symbols of the universe, in its order.

        Raises
        ------
        NotMadeYetError
            Before the universe was made.
        """
        symbols = tuple(store.universe()["symbol"].to_list())
        if not symbols:
            raise NotMadeYetError(
                "the universe is empty: no symbols have been chosen yet",
                where=f"KLINECAST_HOME = {self.settings.home}",
                remedy="materialise `universe` first: klinecast run ingest",
            )
        return symbols
