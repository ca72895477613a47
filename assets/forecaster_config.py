"""The forecaster's settings as a Dagster launchpad form."""

from __future__ import annotations

from typing import Any, Literal, get_origin

import dagster as dg
from pydantic import Field, ValidationError, create_model

from assets.errors import SettingsError
from training.config import ForecasterConfig


def _form_fields() -> dict[str, Any]:
    """Take over all settings of `ForecasterConfig` with their bounds; Dagster knows no choices and no tuples."""
    found: dict[str, Any] = {}
    for name, field in ForecasterConfig.model_fields.items():
        kind = get_origin(field.annotation)
        if kind is tuple:
            found[name] = (list[float], Field(default=list(field.default), description=field.description))
        else:
            found[name] = (str if kind is Literal else field.annotation, field)
    return found


ForecasterForm = create_model("ForecasterForm", __base__=dg.Config, **_form_fields())
ForecasterForm.__doc__ = (
    "What the forecaster sees, predicts and is made of; the defaults are ForecasterConfig's."
)


def forecaster_config(form: dg.Config) -> ForecasterConfig:
    """Return the forecaster's settings that a form holds.

    Raises
    ------
    SettingsError
        When values contradict each other, with what is wrong.
    """
    try:
        return ForecasterConfig(**form.model_dump(include=set(_form_fields())))
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(
            f"these forecaster settings cannot be used: {first['msg'].removeprefix('Value error, ')}",
            where="the run config of training_set",
            remedy="change the values in the launchpad; docs/forecaster.md says what each means",
        ) from None
