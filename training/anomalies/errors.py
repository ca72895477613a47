"""What anomaly detection refuses."""

from __future__ import annotations

from training.errors import TrainingError


class AnomalyError(TrainingError):
    """A panel that detectors cannot be fitted on: too little past, or columns that are absent."""
