"""Whether a home is fit to predict now, and with what, for the command line."""

from __future__ import annotations

from pathlib import Path

from assets.clock import recorded_clock
from assets.errors import NotMadeYetError
from assets.home import Home
from serving.bundle import load_bundle
from serving.errors import ServingError
from serving.form_record import chosen_form
from serving.readiness import Readiness, assess

_UNFINISHED = (
    "the first ingest has not come to its end: bars are stored, and klinecast run ingest fetches those that are"
    " missing"
)


def assess_home(home: Home) -> Readiness:
    """Assess a home; one whose first ingest has not come to its end yet is not ready."""
    if not home.holds_store():
        return Readiness("not_ready", ("nothing is stored here yet: klinecast run ingest",))
    with home.store() as store:
        if recorded_clock(home.settings.home) is None and not store.spans().is_empty():
            return Readiness("not_ready", (_UNFINISHED,))
        try:
            now, symbols = home.now_ms(), home.tracked_symbols(store)
        except NotMadeYetError as error:
            return Readiness("not_ready", (f"{error.what}; {error.remedy}",))
        return assess(store, home.home, now, intervals=home.settings.intervals, symbols=symbols)


def served_model(home: Path) -> str | None:
    """Say which model version predicts, and which of its files is run here; None without a model that can be loaded."""
    try:
        bundle = load_bundle(home)
    except ServingError:  # the assessment says what is wrong
        return None
    file = chosen_form(bundle)
    return f"{bundle.version}, {file or 'file to be chosen by the next sweep'}"
