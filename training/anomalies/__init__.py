"""Bars that do not look like their past: three kinds of detectors over a panel, no TensorFlow."""

from training.anomalies.detect import DETECTORS, AnomalyConfig, AnomalyFlags, detect_anomalies
from training.anomalies.errors import AnomalyError

__all__ = ["DETECTORS", "AnomalyConfig", "AnomalyError", "AnomalyFlags", "detect_anomalies"]
