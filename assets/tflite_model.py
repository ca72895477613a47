"""Asset `tflite_model`: the forecaster as TFLite, in the bundle that is used without klinecast."""

import tempfile
from pathlib import Path

import dagster as dg

from assets.failures import explained
from assets.model_bundle import add_to_bundle, calibration_windows, newest_forecaster
from assets.model_metadata import bundle_metadata, serving_metadata
from assets.platform import Platform
from training.export.export_tflite import export_tflite


@dg.asset(
    deps=["onnx_model"],  # both fill one bundle, and what is fastest is measured when all of it is there
    group_name="forecaster",
    kinds={"python", "tensorflow"},
    code_version="2",
    owners=["team:forecasting"],
)
@explained
def tflite_model(platform: Platform) -> dg.MaterializeResult:
    """The forecaster as TFLite, proven to answer as Keras does, in the same bundle; says which file serving runs."""
    forecaster, windows = newest_forecaster(platform.home)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=platform.home) as staging:
        exported = export_tflite(
            forecaster,
            Path(staging) / "model.tflite",
            windows,
            calibration=calibration_windows(platform.home),
        )
        bundle = add_to_bundle(platform.home, forecaster, exported)
    return dg.MaterializeResult(metadata={**bundle_metadata(bundle, exported), **serving_metadata(bundle)})
