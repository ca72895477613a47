"""Controls of a training run: markets without skill, and one whose skill is known."""
