"""Technical indicators over panels of klines: one definition, batch and streaming, equal to the last bit."""
