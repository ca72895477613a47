"""From a trained forecaster to files that are used without klinecast, and the proof that they answer alike."""
