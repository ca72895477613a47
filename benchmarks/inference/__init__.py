"""How fast, how small and how true the exported forecaster is."""
