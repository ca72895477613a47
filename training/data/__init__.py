"""Training sets: windows, targets, and how time is split."""
