"""Training: batches, epochs, checkpoints."""
