"""Training a forecaster: repeatable, resumable after a kill, stopped when it no longer learns.

`training/fitting/training_run.py` runs the epochs; here it is decided what is to be run, what of it is done already,
and what is left behind.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from training.config import ForecasterConfig
from training.data.training_set import TrainingSet
from training.errors import DivergedError, ForecasterError, TrainingSetError
from training.files import write_atomically
from training.fitting.checkpoint import DIVERGED_FILE, RunState, load_checkpoint
from training.fitting.training_run import TrainingRun
from training.fitting.warm_start import initial_weights
from training.network.backend import keras, limit_threads
from training.network.forecaster_files import (
    FORMAT_VERSION,
    META_FILE,
    WEIGHTS_FILE,
    EpochRecord,
    ForecasterMeta,
    InitialForecaster,
    file_sha256,
    load_meta,
    save_forecaster,
)
from training.network.precision import Computation, choose_computation
from training.progress import ProgressCallback

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedForecaster:
    """A finished training run; `load_forecaster(path)` rebuilds the model."""

    path: Path
    model_path: Path
    weights_path: Path
    config: ForecasterConfig
    history: tuple[EpochRecord, ...]
    feature_names: tuple[str, ...]
    meta: ForecasterMeta


def train(
    training_set: TrainingSet,
    config: ForecasterConfig,
    workdir: Path,
    progress: ProgressCallback | None = None,
    *,
    threads: int | None = None,
    initial: Path | None = None,
) -> TrainedForecaster:
    """Train a forecaster, or go on with the one begun in `workdir`.

    On a CPU, with the same number of threads, the result is the same bit for bit, whether the run was killed
    in between or not. If the same run is already finished in `workdir`, it is returned as it is.

    Parameters
    ----------
    training_set
        Rows, windows and targets; its window, horizon and flat band must be those of `config`.
    config
        Architecture and training settings, including precision and XLA.
    workdir
        Folder for the checkpoint and the result, `forecaster.weights.h5` and `forecaster.json`.
    progress
        Called about twice a second and after each epoch.
    threads
        Compute threads, by default the cores of this process; only the first use in a process counts.
    initial
        Folder of a trained forecaster of the same features and shapes whose weights this one begins with; by
        default it begins with random ones.

    Raises
    ------
    TrainingSetError
        The training set was built with other settings.
    ForecasterError
        `initial` cannot be loaded, has other features or shapes, or has seen bars of the test split.
    DivergedError
        The loss became infinite or not a number, or the answers did; `DIVERGED_FILE` in `workdir` says so, too.
    """
    _check_settings(training_set, config)
    workdir = Path(workdir)
    computation, environment = _computation(config, threads)
    begun_with = None if initial is None else initial_weights(Path(initial), training_set, config)
    origin = None if begun_with is None else begun_with.origin
    run_id = run_id_of(training_set, config, environment, origin)
    workdir.mkdir(
        parents=True, exist_ok=True
    )  # now that nothing is wrong: a folder means a training that was begun
    (workdir / DIVERGED_FILE).unlink(missing_ok=True)
    found = load_checkpoint(workdir, run_id)
    if found and found[0].finished and (meta := _finished(workdir)) is not None:
        log.info("this training run is already finished in %s", workdir)
        return _result(workdir, meta)
    run = TrainingRun(
        training_set,
        computation.applied(config),
        workdir,
        run_id,
        progress,
        None if begun_with is None else begun_with.weights,
        None if begun_with is None else begun_with.validation,
    )
    if found:
        run.restore(*found)
        log.info("training goes on after epoch %d", len(run.state.history))
    try:
        run.to_the_end()
        calibration = run.calibration()
    except DivergedError as error:
        write_atomically(workdir / DIVERGED_FILE, str(error).encode())
        raise
    described = _meta(training_set, config, run.state, environment)
    described = described.model_copy(update={"calibration": calibration, "initial": origin})
    meta = save_forecaster(run.model, described, workdir)
    run.checkpoint(finished=True)
    return _result(workdir, meta)


def _check_settings(training_set: TrainingSet, config: ForecasterConfig) -> None:
    for name in ("window", "horizon", "flat_band"):
        built, wanted = getattr(training_set.manifest.config, name), getattr(config, name)
        if built != wanted:
            raise TrainingSetError(
                f"the training set was built with {name} {built}, the forecaster is to have {wanted}",
                where=str(training_set.path),
                remedy="build the training set again with the same settings",
            )


def identity_of_run(
    training_set: TrainingSet,
    config: ForecasterConfig,
    *,
    threads: int | None = None,
    initial: Path | None = None,
) -> str:
    """Return the identity of the run that `train` makes of the same arguments, without training.

    Raises
    ------
    ForecasterError
        The description of `initial` cannot be read.
    """
    _, environment = _computation(config, threads)
    return run_id_of(training_set, config, environment, None if initial is None else load_meta(initial))


def _computation(config: ForecasterConfig, threads: int | None) -> tuple[Computation, dict[str, str]]:
    """The arithmetic of a run, and what besides settings and data its result depends on."""
    threads = limit_threads(threads)  # before the device is looked at, which starts the backend
    computation = choose_computation(config)
    return computation, _environment(threads) | computation.record()


def _environment(threads: int) -> dict[str, str]:
    """What besides settings and data a result depends on, to the last bit."""
    backend = keras.backend.backend()
    libraries = {name: version(name) for name in ("keras", "numpy", backend)}
    return {**libraries, "backend": backend, "threads": str(threads)}


def run_id_of(
    training_set: TrainingSet,
    config: ForecasterConfig,
    environment: dict[str, str],
    origin: InitialForecaster | ForecasterMeta | None,
) -> str:
    """Hash of all that a run's result depends on."""
    settings = config.model_dump(mode="json")
    parts = [FORMAT_VERSION, settings, training_set.manifest.training_set_id, environment]
    parts += [] if origin is None else [origin.weights_sha256, origin.seen_until]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _finished(workdir: Path) -> ForecasterMeta | None:
    """The description of an intact result, else None."""
    try:
        meta = load_meta(workdir)
        intact = file_sha256(workdir / WEIGHTS_FILE) == meta.weights_sha256
    except (ForecasterError, OSError):
        return None
    return meta if intact else None


def _meta(
    training_set: TrainingSet, config: ForecasterConfig, state: RunState, environment: dict[str, str]
) -> ForecasterMeta:
    manifest = training_set.manifest
    return ForecasterMeta(
        config=config,
        feature_names=manifest.feature_names,
        volatility_feature=manifest.volatility_feature,
        normalisation=manifest.normalisation,
        interval=manifest.interval,
        symbols=manifest.symbols,
        spans=manifest.spans,
        training_set_id=manifest.training_set_id,
        run_id=state.run_id,
        history=state.history,
        best_epoch=state.best_epoch,
        environment=environment,
        weights_sha256="",
    )


def _result(workdir: Path, meta: ForecasterMeta) -> TrainedForecaster:
    return TrainedForecaster(
        path=workdir,
        model_path=workdir / META_FILE,
        weights_path=workdir / WEIGHTS_FILE,
        config=meta.config,
        history=meta.history,
        feature_names=meta.feature_names,
        meta=meta,
    )
