"""What the run config of `training_set` has to hold so that the same forecaster is trained by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernels.catalogue import joined_features, model_features
from kernels.joins import intervals_of, split_name
from training.config import ForecasterConfig
from training.data.feature_choice import feature_groups, scales, without_groups


def training_set_config(config: ForecasterConfig, names: Sequence[str], interval: str) -> dict[str, Any]:
    """Return the run config of `training_set` for a forecaster of these settings and features.

    Parameters
    ----------
    config
        Its settings; those that are as by default are not written.
    names
        Features that it sees, those of longer intervals included.
    interval
        Its own one.

    Returns
    -------
    dict
        Settings, `intervals` and `left_out_groups`, ready for JSON and YAML.
    """
    return config.model_dump(mode="json", exclude_defaults=True) | {
        "intervals": list(intervals_of(names, interval)),
        "left_out_groups": list(left_out_groups(names, interval)),
    }


def left_out_groups(names: Sequence[str], interval: str) -> tuple[str, ...]:
    """Return the groups of which a forecaster sees no feature, but for those that may scale the targets.

    Parameters
    ----------
    names
        Features that it sees.
    interval
        Its own one.
    """
    longer = len(intervals_of(names, interval)) > 1
    every = (*model_features(), *(joined_features() if longer else ()))
    keep = scales(every)
    seen = {split_name(name)[0] for name in names}
    return tuple(
        group
        for group in feature_groups(every)
        if not seen & (set(every) - set(without_groups(every, (group,), keep=keep)))
    )
