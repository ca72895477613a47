"""How fast the forecaster trains, and on what it learns most in a given time."""
