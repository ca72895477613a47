"""To which code location a run of the command line belongs.

Dagster's pages ask for runs by code location: without one, Timeline and the pages of the jobs say of a job that it
never ran, although its run stands under Runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterInstance
    from dagster._core.remote_origin import RemoteJobOrigin

WORKSPACE = Path(__file__).resolve().parent.parent / "workspace.yaml"


def job_origin(module: str, job: str) -> RemoteJobOrigin:
    """Return where the UI and the daemon load a job from.

    Parameters
    ----------
    module
        Name of the module with the job's definitions, as `workspace.yaml` has it.
    job
        Its name.

    Raises
    ------
    LookupError
        `workspace.yaml` has no such module.
    """
    from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
    from dagster._core.remote_origin import RemoteRepositoryOrigin
    from dagster._core.workspace.load import location_origins_from_yaml_paths

    for location in location_origins_from_yaml_paths([str(WORKSPACE)]):
        if location.loadable_target_origin.module_name == module:
            return RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME).get_job_origin(job)
    raise LookupError(f"{WORKSPACE} has no module {module}")


@contextmanager
def runs_belong_to(instance: DagsterInstance, origin: RemoteJobOrigin) -> Iterator[None]:
    """Have runs that are made in this process belong to a job of a code location.

    `JobDefinition.execute_in_process` makes its run itself and has no parameter for this.
    """
    create = instance.create_run_for_job
    vars(instance)["create_run_for_job"] = partial(create, remote_job_origin=origin)
    try:
        yield
    finally:
        del vars(instance)["create_run_for_job"]
