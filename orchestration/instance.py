"""Dagster's own records of one home: where they lie and how the instance is set up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from assets.settings import Settings
from assets.state_files import require_home
from orchestration.defs.jobs import ONE_AT_A_TIME_TAG

_RUN_LIMITS = {
    "max_concurrent_runs": 2,
    "tag_concurrency_limits": [
        {"key": ONE_AT_A_TIME_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": 1},
    ],
}
_DATABASE_VARIABLE = "KLINECAST_DATABASE_URL"


def dagster_home(settings: Settings) -> Path:
    """Return the folder that `DAGSTER_HOME` has to name for this home."""
    return settings.home / "dagster"


def prepare_instance(settings: Settings) -> Path:
    """Write dagster.yaml for these settings and point `DAGSTER_HOME` at it.

    Returns
    -------
    Path
        The folder that `DAGSTER_HOME` now names.
    """
    folder = dagster_home(settings)
    require_home(settings.home)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = yaml.safe_dump(_instance_config(settings), sort_keys=False)
    file = folder / "dagster.yaml"
    if not file.is_file() or file.read_text() != wanted:
        staged = file.with_suffix(f".{os.getpid()}")
        staged.write_text(wanted)
        staged.replace(file)
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    if settings.database:
        os.environ[_DATABASE_VARIABLE] = settings.database  # it may have come from .env alone
    return folder


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """Open the Dagster instance of this home."""
    prepare_instance(settings)
    return dg.DagsterInstance.get()


def _instance_config(settings: Settings) -> dict[str, Any]:
    config: dict[str, Any] = {
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
        "freshness": {"enabled": True},
        "concurrency": {"runs": _RUN_LIMITS, "pools": {"default_limit": 1}},
        # What a step has to say goes through its log; a captured stderr would hide the terminal from it.
        "compute_logs": {
            "module": "dagster._core.storage.noop_compute_log_manager",
            "class": "NoOpComputeLogManager",
        },
        "run_monitoring": {"enabled": True, "max_runtime_seconds": 7200},
        "run_retries": {"enabled": True, "max_retries": 1, "retry_on_asset_or_op_failure": False},
        "retention": {
            "schedule": {"purge_after_days": 7},
            "sensor": {"purge_after_days": {"skipped": 1, "failure": 14, "success": 7}},
        },
    }
    if settings.database:
        config["storage"] = {"postgres": {"postgres_url": {"env": _DATABASE_VARIABLE}}}
    return config
