"""Checks of the exported models: their files are whole, and they answer as the Keras model does."""

import dagster as dg
import polars as pl

from assets.metadata import table
from assets.model_bundle import newest_forecaster
from assets.platform import Platform
from training.bundle import BundleError, read_current, verify_files
from training.parity import FLOAT_TOLERANCE, check_parity


@dg.asset_check(asset="onnx_model", blocking=True)
def onnx_answers_as_keras(platform: Platform) -> dg.AssetCheckResult:
    """The published ONNX file gives the answers of the Keras model on real windows, within the stated tolerance."""
    return _answers_as_keras(platform, "model.onnx")


@dg.asset_check(asset="tflite_model", blocking=True)
def tflite_answers_as_keras(platform: Platform) -> dg.AssetCheckResult:
    """The published TFLite file gives the answers of the Keras model on real windows, within the stated tolerance."""
    return _answers_as_keras(platform, "model.tflite")


@dg.asset_check(asset="tflite_model", blocking=True)
def files_are_whole(platform: Platform) -> dg.AssetCheckResult:
    """Every file of the served bundle has the hash that its manifest names."""
    bundle = read_current(platform.home)
    if bundle is None:
        return dg.AssetCheckResult(passed=False, metadata={"problem": "no model is served yet"})
    try:
        manifest = verify_files(bundle)
    except BundleError as error:
        return dg.AssetCheckResult(passed=False, metadata={"problem": str(error)})
    sizes = [
        {"file": name, "bytes": entry.bytes, "sha256": entry.sha256} for name, entry in manifest.files.items()
    ]
    return dg.AssetCheckResult(passed=True, metadata={"files": table(pl.DataFrame(sizes))})


def _answers_as_keras(platform: Platform, name: str) -> dg.AssetCheckResult:
    bundle = read_current(platform.home)
    if bundle is None:
        return dg.AssetCheckResult(passed=False, metadata={"problem": "no model is served yet"})
    forecaster, windows = newest_forecaster(platform.home)
    report = check_parity(bundle / name, forecaster, windows)
    return dg.AssetCheckResult(
        passed=report.passed,
        metadata={
            "threshold": FLOAT_TOLERANCE,
            "largest_difference": max(report.max_abs_difference.values()),
            "difference": dg.MetadataValue.json(dict(report.max_abs_difference)),
            "agreement": report.agreement,
            "windows": report.windows,
        },
    )
