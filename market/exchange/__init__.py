"""The built-in exchange: the exchange's REST protocol over a simulated or recorded market."""
