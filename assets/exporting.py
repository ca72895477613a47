"""What the assets of the exported files share: take what is there, or export it and put it into the bundle."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from assets.model_bundle import add_to_bundle, calibration_windows, exported_already, newest_forecaster
from assets.platform import Platform
from assets.progress import StepProgress
from training.export.conversion import ExportedModel
from training.export.formats import Format, export
from training.files import scratch_folder


def export_newest(
    context: dg.AssetExecutionContext, platform: Platform, form: Format
) -> tuple[Path, ExportedModel, bool]:
    """Return the bundle of the newest forecaster, its files of one format, and whether they were there already."""
    home = platform.home
    forecaster, windows = newest_forecaster(home)
    kept = exported_already(home, forecaster, form.files)
    if kept is not None:
        return *kept, True
    with (
        StepProgress(context, form.name, "files") as progress,
        scratch_folder(home, ".export-") as staging,
    ):
        progress.say("converting, and comparing with Keras, in processes of their own")
        exported = export(form, forecaster, staging, windows, calibration=calibration_windows(home))
        return add_to_bundle(home, forecaster, exported, now=platform.now_ms), exported, False
