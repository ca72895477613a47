"""What is wrong with the environment, told by the variable's name, what was given, and what is allowed."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable

from dotenv import dotenv_values
from pydantic import ValidationError

from assets.errors import SettingsError

_OTHER_NAMES = {"EXCHANGE_TOKEN"}
"""Read by the built-in exchange itself, which needs no other setting."""

_SECRETS = ("redis_url", "database_url")


def refuse_unknown_names(prefix: str, fields: Iterable[str]) -> None:
    """Refuse a variable that begins like a setting and is none.

    Raises
    ------
    SettingsError
        With the nearest name.
    """
    known = {name.upper() for name in fields} | _OTHER_NAMES
    for variable in (*os.environ, *dotenv_values(".env")):
        name = variable.removeprefix(prefix)
        if variable.startswith(prefix) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else "see the table in docs/settings.md"
            raise SettingsError(
                f"{variable} is no setting of klinecast",
                where="the environment or .env",
                remedy=f"unset it; {hint}",
            )


def explained(error: ValidationError, prefix: str) -> SettingsError:
    """Return the error for values that cannot be used; what may hold a secret is not shown."""
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else ""
    message = first["msg"].removeprefix("Value error, ")
    if not field:
        return SettingsError(
            message, where="the settings", remedy="change one of the two; see docs/settings.md"
        )
    secret = field in _SECRETS or "@" in str(first["input"])
    given = "(not shown, it may hold a secret)" if secret else repr(first["input"])
    return SettingsError(
        f"{prefix}{field.upper()} cannot be used: {message}",
        where=f"{prefix}{field.upper()} = {given}, from the environment or .env",
        remedy="set it to an allowed value; see docs/settings.md",
    )
