"""How much SQLite does to read bars, in steps of its machine: its versions choose different ways."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

from market.store.bars import BAR
from market.store.sqlite import SqliteDatabase, SqliteTransaction

MINUTE = 60_000
BARS, SYMBOLS = 3_000, 12
_EACH = 100


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory):
    statements = list(SqliteDatabase(tmp_path_factory.mktemp("reads") / "klines.sqlite3").ddl)
    bars = np.zeros(BARS * SYMBOLS, BAR)
    bars["open_time"] = np.repeat(np.arange(BARS) * MINUTE, SYMBOLS)
    bars["symbol_id"] = np.tile(np.arange(SYMBOLS), BARS)
    with sqlite3.connect(":memory:") as made:
        made.execute(statements[0])
        SqliteTransaction(made).put_bars("1m", bars)
        yield made


def steps_of_reading(connection: sqlite3.Connection, symbols: list[int] | None) -> int:
    """Steps of SQLite's machine for the bars of some symbols, all times."""
    taken = 0

    def count() -> None:
        nonlocal taken
        taken += _EACH

    connection.set_progress_handler(count, _EACH)
    try:
        found = SqliteTransaction(connection).read_bars("1m", 0, BARS * MINUTE, symbols)
    finally:
        connection.set_progress_handler(None, 0)
    assert len(found) == BARS * len(symbols or range(SYMBOLS))
    return taken


@pytest.mark.parametrize("symbols", [[3], [0, 5], [0, 1, 2, 3]])
def test_bars_of_few_symbols_are_looked_up_one_by_one(
    connection: sqlite3.Connection, symbols: list[int]
) -> None:
    each = steps_of_reading(connection, symbols) / (BARS * len(symbols))
    assert each < 60, f"{each:.0f} steps a bar: it goes through other bars, or through all times"


def test_all_symbols_are_one_pass(connection: sqlite3.Connection) -> None:
    assert steps_of_reading(connection, None) / (BARS * SYMBOLS) < 20
