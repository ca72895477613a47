"""Launchpad forms made out of the settings that they fill in: one definition of each default, bound and text."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from types import GenericAlias
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field


def form_fields(
    settings: type[BaseModel], names: Iterable[str] | None = None, **defaults: Any
) -> dict[str, Any]:
    """Take over settings as fields of a form, as `pydantic.create_model` takes them.

    Parameters
    ----------
    settings
        Where their bounds and texts stand. Dagster knows no choices and no tuples: a form has texts and lists for them,
        and `settings` refuses what is wrong.
    names
        Which; by default all.
    **defaults
        Those of the form that are not those of the settings.
    """
    found: dict[str, Any] = {}
    for name in settings.model_fields if names is None else names:
        field = copy(settings.model_fields[name])
        field.default = defaults.get(name, field.default)
        kind = get_origin(field.annotation)
        if kind is tuple:
            elements = GenericAlias(list, get_args(field.annotation)[0])
            found[name] = (elements, Field(default=list(field.default), description=field.description))
        else:
            found[name] = (str if kind is Literal else field.annotation, field)
    return found
