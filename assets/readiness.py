"""Whether a home is fit to predict now, for the command line."""

from __future__ import annotations

from assets.errors import NotMadeYetError
from assets.platform import Platform
from serving.readiness import Readiness, assess


def assess_home(platform: Platform) -> Readiness:
    """Assess a home; one that nothing was ingested into yet is not ready."""
    if not platform.holds_store():
        return Readiness("not_ready", ("nothing is stored here yet: klinecast run ingest",))
    with platform.store() as store:
        try:
            now, symbols = platform.now_ms(), platform.tracked_symbols(store)
        except NotMadeYetError as error:
            return Readiness("not_ready", (f"{error.what}; {error.remedy}",))
        return assess(store, platform.home, now, intervals=platform.settings.intervals, symbols=symbols)
