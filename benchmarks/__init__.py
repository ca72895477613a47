"""Measurements: a module each, `python -m benchmarks.NAME [--json]`."""
