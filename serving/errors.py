"""What goes wrong in serving, told so that a person can act on it."""

from __future__ import annotations


class ServingError(Exception):
    """A fault that a user can act on.

    Parameters
    ----------
    what
        What is wrong, with the offending value.
    where
        The file, argument, table or URL where it was found.
    remedy
        What to do about it.
    """

    def __init__(self, what: str, *, where: str, remedy: str) -> None:
        super().__init__(what, where, remedy)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n  where: {self.where}\n  do: {self.remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the trip between processes: keyword-only arguments defeat the default protocol."""
        return _rebuild, (type(self), self.what, self.where, self.remedy)


def _rebuild(kind: type[ServingError], what: str, where: str, remedy: str) -> ServingError:
    return kind(what, where=where, remedy=remedy)


class BundleError(ServingError):
    """A model bundle that is absent, damaged, or not what it says it is."""


class SweepError(ServingError):
    """A sweep that cannot be made at all; a symbol that cannot be predicted is no error but is skipped."""


class CacheError(ServingError):
    """A cache that cannot be set up as configured; one that fails later only costs time."""
