"""The forecaster's settings as a Dagster launchpad form."""

from __future__ import annotations

import dagster as dg
from pydantic import ValidationError, create_model

from assets.errors import SettingsError
from assets.forms import form_fields
from training.config import ForecasterConfig

ForecasterForm = create_model("ForecasterForm", __base__=dg.Config, **form_fields(ForecasterConfig))
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
        return ForecasterConfig(**form.model_dump(include=set(ForecasterConfig.model_fields)))
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(
            f"these forecaster settings cannot be used: {first['msg'].removeprefix('Value error, ')}",
            where="the run config of training_set",
            remedy="change the values in the launchpad; docs/forecaster.md says what each means",
        ) from None
