"""How predictions are made and watched: bundles, sweeps, the cache, readiness."""
