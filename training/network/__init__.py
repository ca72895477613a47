"""The forecaster itself: layers, losses, calibration, and the files that it rests in."""
