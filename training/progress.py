"""What a training run tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """State of a training run, reported about twice a second and at the end of each epoch."""

    epoch: int
    """Epoch in progress, from 1."""
    epochs: int
    step: int
    """Batches done in this epoch."""
    steps: int
    loss: float
    """Mean training loss of this epoch so far."""
    windows_per_second: float
    """Training speed in this epoch."""
    validation_loss: float | None = None
    """Set in the last report of an epoch."""

    @property
    def done(self) -> int:
        """Batches done in all epochs."""
        return (self.epoch - 1) * self.steps + self.step

    @property
    def total(self) -> int:
        """Batches of all epochs; fewer, if training stops early."""
        return self.epochs * self.steps

    def __str__(self) -> str:
        validation = "" if self.validation_loss is None else f", validation {self.validation_loss:.4f}"
        return f"epoch {self.epoch}/{self.epochs}, loss {self.loss:.4f}{validation}"


Counted = Callable[[int, int], None]
"""Told how many pieces of how many are done."""

ProgressCallback = Callable[[Progress], None]
