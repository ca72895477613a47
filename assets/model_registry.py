"""The registry of models, for the command line: what there is, what is known of it, and which one is used."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from assets.errors import GivenValueError
from assets.home import Home
from assets.model_cards import card_text
from training.lifecycle.registry import (
    Decision,
    ModelEntry,
    NoSuchVersionError,
    find_model,
    list_models,
    read_decisions,
    use_model,
)

__all__ = ["ModelEntry", "card", "choose", "decisions", "model", "models", "scores"]


def models(home: Home) -> list[ModelEntry]:
    """Return every published version, oldest first."""
    return list_models(home.settings.home)


def model(home: Home, version: str) -> ModelEntry:
    """Return one version, named by any beginning that no other has, its files held against their hashes.

    Raises
    ------
    GivenValueError
        There is no such version.
    """
    with _as_given():
        return find_model(home.settings.home, version)


def decisions(home: Home) -> list[Decision]:
    """Return every decision about which version is used, oldest first."""
    return read_decisions(home.settings.home)


def card(home: Home, version: str) -> str:
    """Return a version's card.

    Raises
    ------
    GivenValueError
        There is no such version.
    """
    with _as_given():
        return card_text(home.settings.home, version)


def choose(home: Home, version: str) -> Decision:
    """Make predictions with this version from the next sweep on.

    Raises
    ------
    BundleError
        Its files are not those that were published; nothing was changed.
    GivenValueError
        There is no such version.
    """
    with _as_given():
        return use_model(home.home, version, at=home.now_ms(), by=f"{getpass.getuser()} on the command line")


@contextmanager
def _as_given() -> Iterator[None]:
    """Say of a version that is not there that it was given on the command line."""
    try:
        yield
    except NoSuchVersionError as error:
        raise GivenValueError(error.what, where=error.where, remedy=error.remedy) from None


def scores(entry: ModelEntry) -> dict[str, Any]:
    """Return the scores of a version on its own test split; empty where it has none."""
    found = entry.manifest.metrics.get("model") if entry.manifest else None
    return found if isinstance(found, dict) else {}
