"""Turn an error that a user can put right into a run failure that says only that."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import dagster as dg

from assets.errors import GivenValueError

P = ParamSpec("P")
R = TypeVar("R")

GIVEN = "wrong_value_given"
"""Metadata of a failure: a value that was given for this run is wrong; the command line has a code for that."""


def is_explained(error: BaseException) -> bool:
    """Tell whether an error says what is wrong, where, and what to do."""
    return all(hasattr(error, name) for name in ("what", "where", "remedy"))


def explained(body: Callable[P, R]) -> Callable[P, R]:
    """Make the explained errors of an asset's body its failure, without a stack trace.

    A stack of framework frames above "no space left in KLINECAST_HOME" helps nobody, so none is recorded for
    such an error. Any other exception is a defect and keeps its trace.

    Assets have no retry policy of Dagster's: the exchange client retries what is worth it, a schedule comes back within
    the minute, and Dagster would take Ctrl-C for one more reason to try again.
    """

    @functools.wraps(body)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        _record_traces(True)
        try:
            return body(*args, **kwargs)
        except Exception as error:
            if not is_explained(error):
                raise
            _record_traces(False)
            raise _failure(error) from None

    return wrapper


def _failure(error: Exception) -> dg.Failure:
    facts = {name: str(getattr(error, name)) for name in ("what", "where", "remedy")}
    if isinstance(error, GivenValueError):
        facts[GIVEN] = "yes"
    return dg.Failure(description=str(error), metadata=facts, allow_retries=False)


def _record_traces(wanted: bool) -> None:
    """Set the interpreter's own switch for recorded frames; the next asset's body switches it back on."""
    if not wanted:
        sys.tracebacklimit = 0
    elif hasattr(sys, "tracebacklimit"):
        del sys.tracebacklimit
