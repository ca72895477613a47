"""What `market` raises when input or the outside world is wrong: what, where, and what to do about it."""

from __future__ import annotations


class MarketError(Exception):
    """A fault that a user can act on.

    Parameters
    ----------
    what : str
        What is wrong, with the offending value.
    where : str
        The file, table, URL or argument where it was found.
    remedy : str
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
        """Survive the trip between processes, keyword-only arguments included."""
        return _rebuild, (type(self), self.what, self.where, self.remedy)


def _rebuild(kind: type[MarketError], what: str, where: str, remedy: str) -> MarketError:
    return kind(what, where=where, remedy=remedy)
