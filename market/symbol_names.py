"""Guess what was meant by a symbol that an exchange does not have."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near_matches(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return up to `limit` known symbols that `name` may stand for, the likeliest first.

    Case and the separators of other exchanges (BTC/USDT, BTC-USDT, BTC_USDT) are looked past.
    """
    names = sorted(set(known))
    bare = "".join(letter for letter in name.upper() if letter.isalnum())
    if bare in names:
        return [bare]
    return difflib.get_close_matches(bare, names, n=limit, cutoff=0.7)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a remedy for an unknown symbol."""
    near = near_matches(name, known)
    if near:
        return f"did you mean {' or '.join(near)}? Symbols are written as the exchange does, in capitals"
    return "see the exchange's exchangeInfo for the symbols it has"
