"""Policies that assets have by the group they belong to."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import dagster as dg

BARS = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=1), warn_window=timedelta(hours=6))
MODELS = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=15), warn_window=timedelta(days=8))
"""A model is made anew once a week, if its schedule is on."""

_OF_MODELS = "forecaster"


def with_policies(assets: Iterable[Any]) -> list[Any]:
    """Give every asset the freshness policy of its group, unless it has its own."""
    return list(dg.map_asset_specs(_with_policy, assets))


def _with_policy(spec: dg.AssetSpec) -> dg.AssetSpec:
    policy = MODELS if spec.group_name == _OF_MODELS else BARS
    return spec if spec.freshness_policy else spec.replace_attributes(freshness_policy=policy)
