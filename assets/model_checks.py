"""Checks of the exported models: their files are whole, and they answer as the Keras model does."""

import dagster as dg
import polars as pl

from assets.metadata import table
from assets.model_bundle import newest_bundle, newest_forecaster
from assets.platform import Platform
from training.export.bundle import BundleError, read_manifest, verify_files
from training.export.parity import FLOAT_TOLERANCE, MIN_AGREEMENT, ParityReport, check_parity

_NOTHING = "nothing of the newest forecaster was exported yet"


@dg.asset_check(asset="onnx_model", blocking=True)
def onnx_answers_as_keras(platform: Platform) -> dg.AssetCheckResult:
    """The published ONNX file gives the answers of the Keras model on real windows, within the stated tolerance."""
    return _answers_as_keras(platform, "model.onnx")


@dg.asset_check(asset="onnx_model", blocking=True)
def onnx_int8_agrees_with_keras(platform: Platform) -> dg.AssetCheckResult:
    """The INT8 ONNX file names the class that Keras names, in all but few real windows; without it a warning."""
    return _answers_as_keras(platform, "model.int8.onnx", quantised=True)


@dg.asset_check(asset="tflite_model", blocking=True)
def tflite_answers_as_keras(platform: Platform) -> dg.AssetCheckResult:
    """The published TFLite file gives the answers of the Keras model on real windows, within the stated tolerance."""
    return _answers_as_keras(platform, "model.tflite")


@dg.asset_check(asset="tflite_model", blocking=True)
def tflite_dynamic_agrees_with_keras(platform: Platform) -> dg.AssetCheckResult:
    """The dynamic-range TFLite file names Keras' class, in all but few real windows; without it a warning."""
    return _answers_as_keras(platform, "model.dynamic.tflite", quantised=True)


@dg.asset_check(asset="tflite_model", blocking=True)
def tflite_int8_agrees_with_keras(platform: Platform) -> dg.AssetCheckResult:
    """The INT8 TFLite file names the class that Keras names, in all but few real windows; without it a warning."""
    return _answers_as_keras(platform, "model.int8.tflite", quantised=True)


@dg.asset_check(asset="tflite_model", blocking=True)
def files_are_whole(platform: Platform) -> dg.AssetCheckResult:
    """Every file of the newest bundle has the hash that its manifest names."""
    bundle = newest_bundle(platform.home)
    if bundle is None:
        return dg.AssetCheckResult(passed=False, metadata={"problem": _NOTHING})
    try:
        manifest = verify_files(bundle)
    except BundleError as error:
        return dg.AssetCheckResult(passed=False, metadata={"problem": str(error)})
    sizes = [
        {"file": name, "bytes": entry.bytes, "sha256": entry.sha256} for name, entry in manifest.files.items()
    ]
    return dg.AssetCheckResult(passed=True, metadata={"files": table(pl.DataFrame(sizes))})


def _answers_as_keras(platform: Platform, name: str, *, quantised: bool = False) -> dg.AssetCheckResult:
    bundle = newest_bundle(platform.home)
    if bundle is None:
        return dg.AssetCheckResult(passed=False, metadata={"problem": _NOTHING})
    manifest = read_manifest(bundle)
    stated = manifest.parity.get(name)
    if quantised and name not in manifest.files:
        return _left_out(stated)
    forecaster, windows = newest_forecaster(platform.home)
    bounds = (None, MIN_AGREEMENT) if quantised else (FLOAT_TOLERANCE, None)
    report = check_parity(
        bundle / name,
        forecaster,
        windows,
        bounds[0],
        min_agreement=bounds[1],
    )
    return dg.AssetCheckResult(
        passed=report.passed,
        metadata={
            "threshold": MIN_AGREEMENT if quantised else FLOAT_TOLERANCE,
            "largest_difference": max(report.max_abs_difference.values()),
            "difference": dg.MetadataValue.json(dict(report.max_abs_difference)),
            "agreement": report.agreement,
            "decision_flips": dg.MetadataValue.json(dict(report.decision_flips or {})),
            "windows": report.windows,
        },
    )


def _left_out(report: ParityReport | None) -> dg.AssetCheckResult:
    """A quantised file that was not good enough is not there: a warning, for the bundle serves without it."""
    told = f"it did not keep its bound: {report}" if report else "it could not be made, or not be run"
    return dg.AssetCheckResult(
        passed=False, severity=dg.AssetCheckSeverity.WARN, metadata={"not published": told}
    )
