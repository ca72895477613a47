"""Simpler forecasts, fitted and judged on the same rows as the forecaster, so that it is known what it is worth."""
