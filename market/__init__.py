"""Market data: the exchange client, ingestion, and the one store that every bar goes through."""
