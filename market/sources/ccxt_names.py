"""The exchanges that ccxt knows, without the seconds that importing it takes."""

from __future__ import annotations

import difflib
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Final

from market.errors import MarketError

SCHEME: Final = "ccxt:"


def is_ccxt(url: str) -> bool:
    """Tell whether a URL names an exchange of ccxt."""
    return url.startswith(SCHEME)


def exchange_id(url: str) -> str:
    """Return the exchange's id in ``ccxt:<id>``.

    Raises
    ------
    MarketError
        If ccxt has no such exchange; near matches are named.
    """
    name = url.removeprefix(SCHEME)
    if name in known_exchanges():
        return name
    near = difflib.get_close_matches(name.lower(), known_exchanges(), n=3, cutoff=0.6)
    hint = (
        f"did you mean {' or '.join(SCHEME + match for match in near)}?"
        if near
        else "see ccxt's list of exchanges."
    )
    raise MarketError(
        f"ccxt has no exchange {name!r}",
        where=f"exchange URL {url}",
        remedy=f"{hint} Ids are in lower case, e.g. {SCHEME}kraken",
    )


@lru_cache(maxsize=1)
def known_exchanges() -> tuple[str, ...]:
    """Return the ids of all exchanges in the installed ccxt, sorted: it has one module for each."""
    found = importlib.util.find_spec("ccxt")
    folders = (found.submodule_search_locations or []) if found else []
    modules = (path for folder in folders for path in (Path(folder) / "async_support").glob("*.py"))
    return tuple(sorted(path.stem for path in modules if path.stem != "__init__"))
