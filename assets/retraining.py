"""When to train again, and how: the champion's own settings on newer bars, because of age or of drift."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.drift_report import drift_of
from assets.home import Home
from assets.platform import Platform
from assets.wording import count, utc
from kernels.errors import KernelError
from kernels.feature_store import open_latest
from market.intervals import DAY_MS
from training.data.training_set import TrainingSet
from training.errors import EvaluationError, ForecasterError
from training.export.bundle import MODELS_FOLDER
from training.export.manifest import Manifest
from training.lifecycle.registry import champion_manifest, champion_version, list_models, read_decisions
from training.lifecycle.run_config import training_set_config
from training.lifecycle.trials import read_trials, trial_name, trial_of
from training.network.forecaster_files import WEIGHTS_FILE, ForecasterMeta, load_meta

TRAINING = "training"
"""Kind of the trials that are forecasters of the asset, not of a search."""


@dataclass(frozen=True)
class Due:
    """A retraining that is asked for.

    Attributes
    ----------
    words
        Why.
    run_key
        The same, whatever the reason, until something is trained: one run is enough.
    """

    words: str
    run_key: str


@dataclass(frozen=True)
class NotDue:
    """No retraining is asked for.

    Attributes
    ----------
    words
        Why not.
    """

    words: str


def champion_forecaster(home: Path) -> Path | None:
    """Return the folder from which the champion can be trained on; None where there is no such.

    Bundles of older versions do not hold the weights, or describe them in another format.
    """
    version = champion_version(home)
    folder = home / MODELS_FOLDER / version if version else None
    return folder if folder is not None and _meta(folder) is not None else None


@contextmanager
def training_trial(platform: Platform, data: TrainingSet, initial: Path | None) -> Iterator[dict[str, Any]]:
    """Write the training of a forecaster down in the ledger of trials; see `training.lifecycle.trials.trial_of`."""
    settings = data.manifest.config.model_dump(mode="json", exclude_defaults=True)
    start = load_meta(initial).weights_sha256 if initial is not None else None
    whole = data.manifest.config.model_dump(mode="json")
    name = trial_name("training", data.manifest.training_set_id, whole, start)
    told = {"config": settings, "training_set_id": data.manifest.training_set_id, "warm_start": start}
    with trial_of(platform.home, name, kind=TRAINING, now=platform.now_ms, settings=told) as ended:
        yield ended


def retraining_config(home: Path, *, warm_start: bool) -> dict[str, Any]:
    """Return the run config of train_and_export that trains the champion again as it is, on the bars there are now.

    Without a champion that tells its settings: the defaults.
    """
    folder = champion_forecaster(home)
    meta = _meta(folder) if folder is not None else None
    if meta is None:
        return {}
    training_set = training_set_config(meta.config, meta.feature_names, meta.interval)
    return {
        "ops": {
            "training_set": {"config": training_set},
            "forecaster": {"config": {"warm_start": warm_start}},
        }
    }


def due_by_age(home: Home, asked_at: int | None = None) -> Due | NotDue:
    """Say whether the newest model, champion or not, is older than the settings allow, by the exchange's clock.

    Parameters
    ----------
    home
        Whose models.
    asked_at
        When a retraining was last asked for, whatever became of it, ms since epoch by the exchange's clock.
    """
    days, newest = home.settings.retrain_after_days, newest_manifest(home.settings.home)
    if newest is None:
        return NotDue(
            "there is no model yet; the first one is trained by hand: klinecast run train_and_export"
        )
    age = home.now_ms() - newest.created_at
    told = f"the newest model, {newest.model_version}, is {age / DAY_MS:.1f} days old"
    if age <= days * DAY_MS:
        return NotDue(f"{told}; {count(days, 'day')} are allowed (KLINECAST_RETRAIN_AFTER_DAYS)")
    if (stale := _nothing_newer(home.settings.home, newest)) is not None:
        return NotDue(f"{told}, but {stale}")
    last = _last_training(home.settings.home, newest, asked_at)
    if home.now_ms() - last <= days * DAY_MS:
        return NotDue(f"{told}, but {_too_soon(last, days)} (KLINECAST_RETRAIN_AFTER_DAYS)")
    return Due(f"{told}, more than {count(days, 'day')}", _run_key(newest, last))


def due_by_drift(home: Home, asked_at: int | None = None) -> Due | NotDue:
    """Say whether the newest features no longer look like those that the champion learned from.

    Parameters
    ----------
    home, asked_at
        As `due_by_age` takes them.
    """
    manifest = champion_manifest(home.settings.home)
    if manifest is None:
        return NotDue("there is no champion whose features could have drifted")
    if (stale := _nothing_newer(home.settings.home, manifest)) is not None:
        return NotDue(stale)
    days = home.settings.drift_days
    newest = newest_manifest(home.settings.home) or manifest
    last = _last_training(home.settings.home, newest, asked_at)
    since = max(last, _last_decision(home.settings.home, manifest.model_version))
    if home.now_ms() - since <= days * DAY_MS:
        return NotDue(f"{_too_soon(since, days)} (KLINECAST_DRIFT_DAYS)")
    try:
        report = drift_of(home.settings.home, manifest, days)
    except (EvaluationError, KernelError) as error:
        return NotDue(f"drift cannot be told: {error.what}; {error.remedy}")
    if not report.drifted:
        return NotDue(f"{report.words} (the newest {count(days, 'day')} against {manifest.model_version})")
    return Due(f"{report.words}, against {manifest.model_version}", _run_key(newest, last))


def newest_manifest(home: Path) -> Manifest | None:
    """Return the manifest of the newest version that can be read."""
    found = [entry.manifest for entry in list_models(home) if entry.manifest is not None]
    return found[-1] if found else None


def _last_training(home: Path, newest: Manifest, asked_at: int | None) -> int:
    """Return when something was last trained, begun or asked for: what failed is not begun again and again."""
    begun = [trial.at for trial in read_trials(home) if trial.kind == TRAINING]
    return max([newest.created_at, asked_at or 0, *begun])


def _last_decision(home: Path, champion: str) -> int:
    """Return when the champion was made champion, or last held against another."""
    return max([d.at for d in read_decisions(home) if champion in (d.challenger, d.champion)], default=0)


def _run_key(newest: Manifest, last: int) -> str:
    return f"retrain:{newest.model_version}:{last}"


def _too_soon(since: int, days: int) -> str:
    return f"a training or a decision at {utc(since)} is not yet {count(days, 'day')} old"


def _nothing_newer(home: Path, manifest: Manifest) -> str | None:
    """Say that there are no newer features than the model was trained and judged on; None if there are."""
    interval = manifest.intervals[0]
    known = max(span["last_label_time"] for span in manifest.split_spans.values())
    try:
        last = int(open_latest(home, interval).open_time[-1])
    except KernelError as error:
        return f"there are no features to train on: {error.what}; klinecast run make_features"
    if last > known:
        return None
    return f"the features end at {utc(last)}, which it knows already: klinecast run make_features"


def _meta(folder: Path) -> ForecasterMeta | None:
    try:
        return load_meta(folder) if (folder / WEIGHTS_FILE).is_file() else None
    except ForecasterError:
        return None
