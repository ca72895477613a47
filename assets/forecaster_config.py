"""The forecaster's settings as a Dagster launchpad form."""

from __future__ import annotations

import dagster as dg
from pydantic import ValidationError, create_model

from assets.errors import GivenValueError
from assets.forms import form_fields
from training.config import ForecasterConfig

_Settings = create_model("_Settings", __base__=dg.Config, **form_fields(ForecasterConfig))


class ForecasterForm(_Settings):  # type: ignore[valid-type,misc]
    """What the forecaster sees, predicts and is made of; the defaults are ForecasterConfig's."""

    def check(self) -> None:
        """Refuse values that contradict each other."""
        forecaster_config(self)


def forecaster_config(form: dg.Config) -> ForecasterConfig:
    """Return the forecaster's settings that a form holds.

    Raises
    ------
    GivenValueError
        When values contradict each other, with what is wrong.
    """
    try:
        return ForecasterConfig(**form.model_dump(include=set(ForecasterConfig.model_fields)))
    except ValidationError as error:
        first = error.errors()[0]
        raise GivenValueError(
            f"these forecaster settings cannot be used: {first['msg'].removeprefix('Value error, ')}",
            where="ops.training_set.config in the run config",
            remedy="change the values; docs/forecaster.md says what each means",
        ) from None
