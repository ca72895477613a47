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


ProgressCallback = Callable[[Progress], None]
