"""How symbols are written, and what was meant by one that an exchange does not have."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final

_QUOTES: Final = (
    *("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD"),
    *("BTC", "ETH", "BNB", "EUR", "TRY", "BRL", "JPY"),
)
_DATED: Final = re.compile(r"[^\W_]+_(\d{6}|PERP)")  # a contract that ends on a day, or a coin-margined one
_SEPARATORS: Final = re.compile(r"[-_/:]+")


def spelled(name: str, *, unified: bool = False) -> str:
    """Return a symbol as it has to be written, whatever the case and separators of `name`.

    Parameters
    ----------
    name : str
        ``btcusdt``, ``BTC/USDT``, ``btc-usdt``, ``BTC_USDT``, ``BTC/USDT:USDT``, ...
    unified : bool
        As ccxt does (``BTC/USDT``), else as Binance's protocol does (``BTCUSDT``).

    Returns
    -------
    str
        `name` itself where nothing is wrong with it.
    """
    if unified:
        return _unified(name)
    upper = name.upper()
    if _DATED.fullmatch(upper):
        return upper
    pair = (
        upper.partition(":")[0] if "/" in upper else upper
    )  # BTC/USDT:USDT: what settles a contract is no part
    return _bare(pair)


def _unified(name: str) -> str:
    right = name.upper() if name == name.lower() else name  # some bases are written kPEPE
    if "/" in right:
        return right
    base, quote = split_pair(right)
    return f"{base}/{quote}" if quote else right


def spelling_hint(meant: Iterable[str], *, unified: bool = False) -> str:
    """Return a remedy for names that are written otherwise than the source writes them."""
    how = "as ccxt does, such as BTC/USDT" if unified else "in capitals, without a separator, such as BTCUSDT"
    names = " or ".join(filter(None, meant))
    return (f"did you mean {names}? " if names else "") + f"Symbols are written {how}"


def split_pair(name: str) -> tuple[str, str]:
    """Split a symbol into base and quote; the quote is empty where it cannot be told."""
    parts = [part for part in _SEPARATORS.split(name) if part]
    if len(parts) == 2:
        return parts[0], parts[1]
    for quote in _QUOTES:
        if name.endswith(quote) and len(name) > len(quote):
            return name.removesuffix(quote), quote
    return name, ""


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
