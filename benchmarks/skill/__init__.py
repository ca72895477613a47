"""How well the forecaster does on data of one's own; `python -m benchmarks.skill`."""
