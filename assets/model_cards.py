"""The card of each model version: written into its bundle once, and shown from there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.forecaster_runs import judged_run
from assets.model_state import judgement_folder, training_set_folder
from assets.source import claimed_source, is_simulated
from training.config import ForecasterConfig
from training.data.training_set import TrainingSet
from training.errors import EvaluationError, ForecasterError, TrainingSetError
from training.export.bundle import MODELS_FOLDER, add_file, read_manifest
from training.export.manifest import Manifest
from training.files import scratch_folder
from training.lifecycle.model_card import CARD_FILE, render_card
from training.lifecycle.registry import find_model
from training.lifecycle.trials import count_trials
from training.network.forecaster_files import ForecasterMeta, load_meta

if TYPE_CHECKING:
    from training.controls.run import ControlsReport


def publish_card(home: Path, bundle: Path) -> Manifest:
    """Write the card of a bundle, unless it has one; returns the manifest that lists it.

    Raises
    ------
    BundleError
        The bundle is damaged.
    """
    manifest = read_manifest(bundle)
    if CARD_FILE in manifest.files:
        return manifest
    with scratch_folder(home, ".card-") as folder:
        card = folder / CARD_FILE
        card.write_text(_written(home, bundle, manifest, trials=count_trials(home)))
        return add_file(bundle, card)


def card_text(home: Path, version: str) -> str:
    """Return the card of a version; of a bundle without one, what its manifest tells.

    Raises
    ------
    BundleError
        There is no such version.
    """
    entry = find_model(home, version)
    bundle = home / MODELS_FOLDER / entry.version
    manifest = read_manifest(bundle)
    if CARD_FILE in manifest.files and entry.problem is None:
        return (bundle / CARD_FILE).read_text()
    return _written(home, bundle, manifest, trials=None)


def checks_in_words(home: Path, bundle: Path) -> str:
    """Say what is known of the checks of a bundle's forecaster: passed, let pass by a limit, or not run."""
    from training.controls.words import outcome_in_words  # TensorFlow: not for those who only look

    return outcome_in_words(_controls_report(home, _meta(bundle)))


def _written(home: Path, bundle: Path, manifest: Manifest, *, trials: int | None) -> str:
    meta = _meta(bundle)
    findings = {"Controls": _controls(home, meta), "Judgement": _judgement(home, meta)}
    return render_card(
        manifest, meta, trials=trials, left_out=_left_out(home, meta), findings=findings, market=_market(home)
    )


def _market(home: Path) -> str | None:
    """Name the market of this home, plainly where it is none: symbols of a simulation have the names of real ones."""
    source = claimed_source(home)
    made_up = ", which the built-in exchange makes up: nothing here tells of a real market"
    return source and source + (made_up if is_simulated(source) else "")


def _controls(home: Path, meta: ForecasterMeta | None) -> list[str]:
    """Return what the controls beside the forecaster found, while its run is kept."""
    if (found := _controls_report(home, meta)) is None:
        return []
    from training.controls.words import in_words  # likewise

    return list(in_words(found).values())


def _controls_report(home: Path, meta: ForecasterMeta | None) -> ControlsReport | None:
    folder = judged_run(home, meta.weights_sha256) if meta else None
    if folder is None:
        return None
    from training.controls.run import read_controls  # likewise

    return read_controls(folder)


def _judgement(home: Path, meta: ForecasterMeta | None) -> list[str]:
    """Return what the newest judgement of its recipe on its training set says."""
    folders = list(judgement_folder(home, "any").parent.glob("[!.]*"))
    if meta is None or not folders:
        return []
    from training.judgement import Judgement, in_words  # likewise
    from training.judgement.settings import OWN_LIMITS

    def recipe(config: ForecasterConfig) -> dict[str, Any]:
        return config.model_dump(exclude=set(OWN_LIMITS))

    for folder in sorted(folders, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            found = Judgement.load(folder)
        except EvaluationError:  # damaged, or of another format
            continue
        if found.training_set_id == meta.training_set_id and recipe(found.config) == recipe(meta.config):
            return in_words(found)
    return []


def _meta(bundle: Path) -> ForecasterMeta | None:
    try:
        return load_meta(bundle)
    except ForecasterError:  # a bundle of a version that did not keep it, or of another format
        return None


def _left_out(home: Path, meta: ForecasterMeta | None) -> dict[str, int]:
    """Return where the rows of its training set went that no split holds, while that set is still there."""
    try:
        found = TrainingSet.load(training_set_folder(home)).manifest
    except TrainingSetError:
        return {}
    if meta is None or found.training_set_id != meta.training_set_id:
        return {}
    return {name: count for name, count in found.counts.items() if name not in (*found.spans, "grid")}
