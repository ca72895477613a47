"""What becomes of models: search, promotion, the registry, and the cards that describe them."""
