"""`klinecast sql`: questions to the store in DuckDB's SQL."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from assets.errors import AssetError, GivenValueError
from assets.home import VIEWS, Home

_TABLES = f"{', '.join(VIEWS[:-1])} and {VIEWS[-1]}"


class QueryError(AssetError):
    """DuckDB cannot answer a query."""


class WrongQueryError(GivenValueError):
    """A query that is no question to the store."""


def show_query(query: str) -> int:
    """Show the answer to a DuckDB query."""
    _require_text(query)
    with Home().existing_store() as store, store.connect_duckdb() as connection, _ended_by_ctrl_c():
        try:
            for statement in _only_questions(connection, query):
                connection.sql(statement).show(max_rows=200)
        except (duckdb.ProgrammingError, duckdb.NotSupportedError) as error:
            raise WrongQueryError(
                str(error).strip(),
                where="the query",
                remedy=f"mend it; the tables are {_TABLES}",
            ) from None
        except duckdb.Error as error:
            raise QueryError(
                str(error).strip(),
                where="the query, while it was being answered",
                remedy="ask for less, or mend what is named",
            ) from None
    return 0


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C end the process: DuckDB looks for it now and then only, and nothing is written that could be lost."""
    former = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former or signal.default_int_handler)


def _only_questions(connection: duckdb.DuckDBPyConnection, query: str) -> list[str]:
    """Split a query into its statements, and refuse what is no question to the store."""
    statements = connection.extract_statements(query)
    asking = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
    if not statements or any(statement.type not in asking for statement in statements):
        raise WrongQueryError(
            "this is no question: the store is read here, never written",
            where="the query",
            remedy=f"ask with SELECT; the tables are {_TABLES}",
        )
    return [statement.query for statement in statements]


def _require_text(query: str) -> None:
    if any("\ud800" <= letter <= "\udfff" for letter in query):
        raise WrongQueryError(
            "it holds bytes that are no UTF-8",
            where="the query",
            remedy="write it in a terminal that uses UTF-8",
        )
