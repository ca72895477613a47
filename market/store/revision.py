"""Revisions: a number for each interval that grows with every change of its bars, whichever process made it.

What is derived from bars keeps the revision it was derived at; it is current while the store has no other one.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from market.store.database import Transaction
from market.store.spans import TIME_LIMIT

_KEPT: Final = 1_000
_STEP_BITS: Final = 31
NEVER: Final = 0
"""Revision of an interval whose bars were never changed."""


def record(transaction: Transaction, interval: str, days: Sequence[int], start: int, end: int) -> None:
    """Tell that bars which open in [start, end) were changed, in the transaction that changes them.

    Parameters
    ----------
    days : Sequence[int]
        Starts of the UTC days of these bars: their versions are raised, so that a roll notices.
    """
    rows = ", ".join(f"(?, {int(day)}, 1)" for day in days)
    transaction.run(
        f"INSERT INTO day_versions (kline_interval, start_time, version) VALUES {rows}"  # noqa: S608 - numbers
        " ON CONFLICT (kline_interval, start_time) DO UPDATE SET version = day_versions.version + 1",
        [interval] * len(days),
    )
    # Steps by chance: a database put back from a copy does not come to the numbers it had given before.
    step = 1 + secrets.randbits(_STEP_BITS)
    transaction.run(
        "INSERT INTO changes (kline_interval, revision, start_time, end_time)"  # noqa: S608 - a number of ours
        f" SELECT ?, coalesce(max(revision), {NEVER}) + {step}, {int(start)}, {int(end)}"
        " FROM changes WHERE kline_interval = ?",
        (interval, interval),
    )
    if secrets.randbelow(_KEPT // 10) == 0:
        _forget(transaction, interval)


def _forget(transaction: Transaction, interval: str) -> None:
    """Delete all but the newest changes: whoever derived something before them reads all bars anew."""
    transaction.run(
        "DELETE FROM changes WHERE kline_interval = ? AND revision < (SELECT min(revision) FROM"  # noqa: S608
        " (SELECT revision FROM changes WHERE kline_interval = ? ORDER BY revision DESC"
        f" LIMIT {_KEPT}) AS newest)",
        (interval, interval),
    )


def current(transaction: Transaction, interval: str) -> int:
    """Return the interval's revision."""
    [(revision,)] = transaction.execute(
        "SELECT max(revision) FROM changes WHERE kline_interval = ?", (interval,)
    )
    return NEVER if revision is None else int(revision)


def same_until(transaction: Transaction, interval: str, revision: int, start: int) -> int:
    """Return up to which open time no bar from `start` on was changed after a revision.

    Returns
    -------
    int
        `start` itself where that is not known any more.
    """
    [(base, first)] = transaction.execute(
        "SELECT min(revision), min(CASE WHEN revision > ? AND end_time > ? THEN start_time END) FROM changes"
        " WHERE kline_interval = ? AND revision >= ?",
        (revision, start, interval, revision),
    )
    if base != revision:
        return start
    return TIME_LIMIT if first is None else max(start, int(first))
