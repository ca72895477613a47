"""What goes wrong in feature computation, told so that a person can act on it."""

from __future__ import annotations

import traceback


class KernelError(Exception):
    """An input, a feature name or a saved state that the kernels refuse.

    Parameters
    ----------
    what
        What is wrong.
    where
        The place: column, row, symbol, open time, file.
    remedy
        What to do about it.
    """

    def __init__(self, what: str, *, where: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n  where: {self.where}\n  do: {self.remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.remedy))


def _rebuild(kind: type[KernelError], what: str, where: str, remedy: str) -> KernelError:
    """Carry an error across processes: keyword-only arguments defeat the default protocol."""
    return kind(what, where=where, remedy=remedy)


class BadPanel(KernelError):  # noqa: N818 - reads as what it says
    """A panel or a bar with a wrong shape, dtype, time axis or value."""


class UnknownFeature(KernelError):  # noqa: N818
    """A feature name that the catalogue cannot make sense of."""


class RevisedBar(KernelError):  # noqa: N818
    """A bar that was already consumed, came again; the stream has moved on and cannot take it back."""


class StateMismatch(KernelError):  # noqa: N818
    """A saved stream state that belongs to other features, symbols or another interval."""


def place_in(file: str, error: BaseException) -> str:
    """`file:line` where an error passed through a file last; the file alone where it did not."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return f"{file}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{file}:{lines[-1]}" if lines else file
