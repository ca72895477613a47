"""What a person sees of an exported model: its files, their sizes, and how they compare with Keras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from assets.metadata import table
from serving.bundle import load_bundle
from serving.form_choice import form_choice
from training.export.bundle import read_manifest
from training.export.conversion import ExportedModel


def bundle_metadata(bundle: Path, exported: ExportedModel, *, already: bool) -> dict[str, Any]:
    """Describe the files of one conversion in their bundle; `already`: they were there, and are whole."""
    manifest = read_manifest(bundle)
    sizes = {path.name: manifest.files[path.name].bytes for path in exported.files}
    parity = [
        {
            "file": name,
            "published": name in sizes,
            "bytes": sizes.get(name),
            "runtime": report.runtime,
            "windows": report.windows,
            "direction": report.max_abs_difference["direction"],
            "quantiles": report.max_abs_difference["quantiles"],
            "volatility": report.max_abs_difference.get("volatility"),
            "agreement": report.agreement,
            **{f"decision_flips_{by}": share for by, share in (report.decision_flips or {}).items()},
        }
        for name, report in exported.reports.items()
    ]
    files = ", ".join(f"{name} {size / 1024:,.0f} KiB" for name, size in sizes.items())
    return {
        "summary": f"{'already there, by their SHA-256: ' if already else ''}{files} in models/{bundle.name}",
        "model_version": bundle.name,
        "parity": table(pl.DataFrame(parity)),
        "bundle": dg.MetadataValue.path(bundle),
        "manifest": dg.MetadataValue.json(
            manifest.model_dump(
                mode="json", include={"feature_names", "window", "horizon", "quantiles", "files"}
            )
        ),
    }


def serving_metadata(bundle: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Say which file of a bundle serving runs on this machine, and how long each form took; measures if need be.

    `tell` is told whether it does.
    """
    choice = form_choice(load_bundle(bundle), tell)
    forms = [{"file": name, **facts} for name, facts in choice["forms"].items()]
    return {
        "served_file": choice["chosen"],
        "serving_forms": table(pl.DataFrame(forms)) if forms else "nothing was to be measured",
    }
