"""Whether a home is fit to predict now, for the command line."""

from __future__ import annotations

from assets.errors import NotMadeYetError
from assets.home import Home
from serving.readiness import Readiness, assess


def assess_home(home: Home) -> Readiness:
    """Assess a home; one that nothing was ingested into yet is not ready."""
    if not home.holds_store():
        return Readiness("not_ready", ("nothing is stored here yet: klinecast run ingest",))
    with home.store() as store:
        try:
            now, symbols = home.now_ms(), home.tracked_symbols(store)
        except NotMadeYetError as error:
            return Readiness("not_ready", (f"{error.what}; {error.remedy}",))
        return assess(store, home.home, now, intervals=home.settings.intervals, symbols=symbols)
