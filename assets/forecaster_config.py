"""The forecaster's settings as a Dagster launchpad form."""

from __future__ import annotations

from typing import Any, Literal, get_origin

import dagster as dg
from pydantic import ValidationError, create_model

from assets.errors import SettingsError
from training.config import ForecasterConfig

_PLAIN = (int, float, bool, bool | None)


def _form_fields() -> dict[str, Any]:
    """Take over the plain numbers, switches and choices of `ForecasterConfig`, with their bounds and meanings."""
    fields = ForecasterConfig.model_fields.items()
    return {
        name: (str if get_origin(field.annotation) is Literal else field.annotation, field)
        for name, field in fields
        if field.annotation in _PLAIN or get_origin(field.annotation) is Literal
    }


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
