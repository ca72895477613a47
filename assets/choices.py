"""What a person chooses on the command line: symbols, intervals and spans of time, read and checked before any work."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from assets.errors import GivenValueError
from assets.home import Home
from assets.settings import load_settings
from assets.source import claimed_source
from market.errors import MarketError
from market.exchange.clock import parse_time
from market.intervals import interval_ms
from market.sources.ccxt_names import is_ccxt
from market.store import KlineStore
from market.symbol_names import near_matches, spelled, spelling_hint
from market.wording import count, utc

_SHOWN = 20


def read_symbols(text: str | None, option: str = "--symbols") -> list[str] | None:
    """Read symbols separated by commas, each once; None where none were given.

    Raises
    ------
    GivenValueError
        If there is no name between the commas, one that is no text, or one that no symbol is written like; what is
        meant by it is named.
    """
    names = _names(text, option, "BTCUSDT,ETHUSDT")
    for name in names or ():
        if not name.isprintable() or any(letter.isspace() for letter in name):
            raise GivenValueError(
                f"{name!a} is no symbol",
                where=option,
                remedy="write symbols as the exchange does, separated by commas, such as BTCUSDT,ETHUSDT",
            )
    if names is not None:
        _require_spelling(names, option)
    return names


def _require_spelling(names: list[str], option: str) -> None:
    settings = load_settings()
    unified = is_ccxt(settings.exchange_url or claimed_source(settings.home) or "")
    odd = [name for name in names if spelled(name, unified=unified) != name]
    known = _known_symbols() if odd else set()
    for name in odd:
        if name not in known and (name == "all" or name.lower().startswith("top:")):
            raise GivenValueError(
                f"{name!r} is no symbol",
                where=option,
                remedy=f"name symbols, or leave {option} out for all; all and top:N are values of KLINECAST_SYMBOLS",
            )
        if name not in known:
            near = near_matches(name, known) or [spelled(name, unified=unified)]
            raise GivenValueError(
                f"{name!r} is not how symbols are written here",
                where=option,
                remedy=spelling_hint(near, unified=unified),
            )


def _known_symbols() -> set[str]:
    home = Home()
    if not home.holds_store():
        return set()
    with home.existing_store() as store:
        return known_symbols(store)


def known_symbols(store: KlineStore) -> set[str]:
    """Return the symbols that a home follows or holds bars of."""
    return {*store.universe()["symbol"], *store.spans()["symbol"]}


class UnknownNamesError(GivenValueError):
    """Names that a home holds nothing of."""


def unknown_names(
    asked: Sequence[str] | None, known: Collection[str], option: str, *, kind: str = "symbol"
) -> UnknownNamesError | None:
    """Return the error for names that nothing is stored under, None where there are none; the caller tells it.

    Parameters
    ----------
    asked
        Names as they were given; None for all.
    known
        Names under which this home holds something.
    option
        Where they were given.
    kind
        What they name.

    Raises
    ------
    UnknownNamesError
        If all of them are unknown: there is nothing else to tell then.
    """
    unknown = [name for name in asked or () if name not in known]
    if not unknown:
        return None
    error = UnknownNamesError(
        f"nothing is stored here of {count(len(unknown), kind)}: {', '.join(unknown)}",
        where=option,
        remedy=_meant(unknown, known, kind),
    )
    if len(unknown) == len(asked or ()):
        raise error
    return error


def _meant(unknown: Sequence[str], known: Collection[str], kind: str) -> str:
    """Say what each name was probably meant to be, and what there is where that cannot be told."""
    near = {name: near_matches(name, known) for name in unknown}
    hints = [
        f"{name}: did you mean {' or '.join(names)}?"
        if len(unknown) > 1
        else f"did you mean {' or '.join(names)}?"
        for name, names in near.items()
        if names
    ]
    if len(hints) < len(unknown):
        names, more = sorted(known)[:_SHOWN], len(known) - _SHOWN
        what_there_is = f"the {kind}s here are {', '.join(names)}" + (
            f" and {more:,} more" if more > 0 else ""
        )
        hints.append(what_there_is if known else "fetch bars first: klinecast run ingest")
    return "; ".join(hints)


def read_intervals(text: str | None, option: str = "--intervals") -> list[str] | None:
    """Read intervals separated by commas, each once; None where none were given.

    Raises
    ------
    GivenValueError
        If one of them is unknown or cannot be stored, or if there is none between the commas.
    """
    names = _names(text, option, "1m,15m")
    require_intervals(names or (), option)
    return names


def require_intervals(names: Iterable[str], where: str) -> None:
    """Refuse intervals that are unknown or cannot be stored, with a `GivenValueError` that says where they stand."""
    for name in names:
        try:
            interval_ms(name)
        except MarketError as error:
            raise GivenValueError(error.what, where=where, remedy=error.remedy) from None


def read_interval(text: str, option: str = "--interval") -> str:
    """Read one interval; raises `GivenValueError` as `read_intervals` does, or if there are several."""
    names = read_intervals(text, option) or []
    if len(names) != 1:
        raise GivenValueError(f"{text!r} is not one interval", where=option, remedy="give a single one")
    return names[0]


def read_time(text: str | None, option: str) -> int | None:
    """Read a time in ms since the epoch or in ISO 8601 (UTC).

    Raises
    ------
    GivenValueError
        If it is neither.
    """
    if text is None:
        return None
    try:
        return parse_time(text)
    except (MarketError, OverflowError):
        raise GivenValueError(
            f"{text!a} is no time",
            where=option,
            remedy="give ISO 8601, such as 2026-01-31 or 2026-01-31T12:00, or ms since the epoch; both are UTC",
        ) from None


def read_span(start: str | None, end: str | None) -> tuple[int | None, int | None]:
    """Read the options --start and --end, either of which may be left out.

    Raises
    ------
    GivenValueError
        If one of them is no time, or the end is not after the start.
    """
    first, last = read_time(start, "--start"), read_time(end, "--end")
    if first is not None and last is not None and first >= last:
        raise GivenValueError(
            f"there is no time between {start} and {end}",
            where="--start and --end",
            remedy="give an end after the start, or leave one of them out",
        )
    return first, last


def future_start(start: int, now: int, option: str) -> GivenValueError:
    """Return the error for a first open time that has not come yet."""
    return GivenValueError(
        f"{utc(start)} is in the future: it is {utc(now)}",
        where=option,
        remedy="give the open time of the first bar that is wanted",
    )


def _names(text: str | None, option: str, example: str) -> list[str] | None:
    if text is None:
        return None
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise GivenValueError(
            f"{text!a} names nothing", where=option, remedy=f"give names separated by commas: {example}"
        )
    return names
