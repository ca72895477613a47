"""What can go wrong in training, told so that its reader knows what to do next."""

from __future__ import annotations

from pydantic import ValidationError


def first_fault(error: ValidationError) -> str:
    """Say which field of a file is wrong first, and how; `file` where it is no field."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}"


class TrainingError(Exception):
    """Base class of the errors of this package.

    Parameters
    ----------
    what
        What is wrong, in one sentence.
    where
        The file, setting, feature or split that it is about.
    remedy
        What the reader can do about it.
    """

    def __init__(self, what: str, *, where: str, remedy: str) -> None:
        super().__init__(what, where, remedy)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n  where: {self.where}\n  do: {self.remedy}"


class TrainingSetError(TrainingError):
    """The input of a training set, or its folder, cannot be used."""


class ForecasterError(TrainingError):
    """The files of a trained forecaster are absent, broken or do not belong together."""


class DivergedError(TrainingError):
    """The loss is no longer a finite number."""


class EvaluationError(TrainingError):
    """Predictions and outcomes do not fit together, or there is nothing to judge."""
