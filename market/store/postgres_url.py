"""The URL of a PostgreSQL database, and what its errors mean; no message holds the password or a part of it."""

from __future__ import annotations

import re
from typing import Any, Final

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from market.errors import MarketError

_FORM: Final = "postgresql://user:password@host:port/database"
# A peer that is gone without a word (its machine, the network) is noticed after about a minute, not after hours.
_PATIENCE: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

_NOTHING_CHANGED: Final = "nothing was changed, nothing stored is lost"
_REMEDIES: Final[tuple[tuple[type[psycopg.Error], str], ...]] = (
    (
        errors.InsufficientPrivilege,
        "let this user create the schema `klinecast` and write in it, or name another user",
    ),
    (
        errors.ReadOnlySqlTransaction,
        "name a server that takes writes: this one is a standby or set to read-only",
    ),
    (errors.DiskFull, "free disk space on the server, then run this again"),
    (errors.OutOfMemory, "give the server more memory, then run this again"),
    (errors.TooManyConnections, "raise max_connections of the server, or end sessions that nobody needs"),
    (
        errors.QueryCanceled,
        "raise statement_timeout for this user or database (0: none), then run this again",
    ),
    (
        errors.IdleInTransactionSessionTimeout,
        "raise idle_in_transaction_session_timeout for this user or database",
    ),
)
_AT_CONNECTING: Final = (
    ("password authentication failed", "set user and password of the URL right, special characters as %XX"),
    ("no password supplied", "give the password in the URL, or in PGPASSWORD or ~/.pgpass"),
    ("role ", "name a user that the server has, or create it"),
    ("database ", "create the database (createdb), or name another one in the URL"),
    ("no pg_hba.conf entry", "let the server's pg_hba.conf admit this user from here"),
)


def read_url(url: str) -> tuple[str, dict[str, Any], str]:
    """Return a URL as psycopg takes it, the settings of a connection beside it, and its name without secrets.

    Parameters
    ----------
    url : str
        ``postgresql://...``; a driver in the scheme, as in ``postgresql+psycopg2://``, is ignored.

    Raises
    ------
    MarketError
        If it is no such URL; nothing of it is quoted but the scheme.
    """
    plain, changed = re.subn(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)
    if not changed:
        scheme = re.match(r"([a-z][a-z0-9+.-]*)://", url, re.IGNORECASE)
        raise MarketError(
            "database URL of an unknown kind" + (f": {scheme[1]}" if scheme else ""),
            where="database URL",
            remedy=f"give {_FORM}, or nothing for SQLite",
        )
    authority, _, rest = plain.removeprefix("postgresql://").partition("?")[0].partition("/")
    try:
        # A password with a bare @ or / would be taken for a host or a database, and be told as such.
        if authority.count("@") > 1 or "@" in rest:
            raise psycopg.ProgrammingError
        parts = conninfo_to_dict(plain)
    except psycopg.Error:  # its message quotes the URL, password and all
        raise MarketError(
            "database URL cannot be read",
            where="database URL",
            remedy=f"give {_FORM}, special characters as %XX (@ is %40, / is %2F)",
        ) from None
    server = ":".join(str(parts[key]) for key in ("host", "port") if parts.get(key))
    options = {name: value for name, value in _PATIENCE.items() if name not in parts}
    return plain, options, f"postgresql://{server}/{parts.get('dbname', '')}"


def explain(error: psycopg.Error, where: str, *, busy_ms: int, committing: bool) -> MarketError:
    """Return what an error of the server, or of the connection to it, means.

    Parameters
    ----------
    busy_ms : int
        How long a writer waits for others.
    committing : bool
        The COMMIT had been sent, and no answer to it came.
    """
    said = str(error).strip()
    if isinstance(error, errors.LockNotAvailable):
        return MarketError(
            f"another process has been writing for {busy_ms / 1_000:g} s",
            where=where,
            remedy="look in pg_stat_activity for a session that holds its transaction open, and end it",
        )
    for kind, remedy in _REMEDIES:
        if isinstance(error, kind):
            what = f"the store's database refused: {said}"
            return MarketError(what, where=where, remedy=f"{remedy}; {_NOTHING_CHANGED}")
    if isinstance(error, psycopg.OperationalError):
        if "pipeline" in said:  # psycopg's own words for a connection that broke
            said = "the connection was lost"
        remedy = next(
            (text for sign, text in _AT_CONNECTING if f"FATAL:  {sign}" in said),
            "see that the server runs, can be reached and has disk space, then run this again",
        )
        if committing:
            said += "; it had been told to commit, and whether it did is not known"
            remedy += "; what is stored already is not stored twice"
        return MarketError(f"the store's database failed: {said}", where=where, remedy=remedy)
    return MarketError(
        f"the store's database refused: {said}",
        where=where,
        remedy="report this with the message above; the transaction was undone, nothing stored is lost",
    )
