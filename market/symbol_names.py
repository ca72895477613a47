"""Guess what was meant by a symbol that an exchange does not have."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near_matches(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return up to `limit` known symbols that `name` may stand for, the likeliest first.

    Case and separators (BTC/USDT, BTC-USDT, BTC_USDT) are looked past.
    """
    by_bare = {_bare(known_name): known_name for known_name in sorted(set(known), reverse=True)}
    bare = _bare(name)
    if bare in by_bare:
        return [by_bare[bare]]
    return [by_bare[near] for near in difflib.get_close_matches(bare, sorted(by_bare), n=limit, cutoff=0.7)]


def _bare(name: str) -> str:
    return "".join(letter for letter in name.upper() if letter.isalnum())


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a remedy for an unknown symbol."""
    near = near_matches(name, known)
    if near:
        return f"did you mean {' or '.join(near)}? Symbols are written as the exchange does, in capitals"
    return "see the exchange's exchangeInfo for the symbols it has"
