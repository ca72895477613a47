"""Bulk archives of an exchange: monthly and daily zips of klines, each with its checksum beside it."""
