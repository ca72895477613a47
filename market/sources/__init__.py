"""Sources of bars beside `market.client`: ccxt's exchanges, and the choice between all of them."""
