"""Policies that hold for every asset alike."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import dagster as dg

FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=1), warn_window=timedelta(hours=6))


def with_policies(assets: Iterable[Any]) -> list[Any]:
    """Give every asset the one freshness policy."""
    return list(
        dg.map_asset_specs(
            lambda spec: (
                spec if spec.freshness_policy else spec.replace_attributes(freshness_policy=FRESHNESS)
            ),
            assets,
        )
    )
