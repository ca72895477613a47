"""Asset `tflite_model`: the forecaster as TFLite, in the bundle that is used without klinecast."""

import tempfile
from pathlib import Path

import dagster as dg

from assets.failures import explained
from assets.model_bundle import add_to_bundle, calibration_windows, exported_already, newest_forecaster
from assets.model_metadata import bundle_metadata, serving_metadata
from assets.platform import Platform
from assets.progress import StepProgress
from training.export.export_tflite import export_tflite


@dg.asset(
    deps=["onnx_model"],  # both fill one bundle, and what is fastest is measured when all of it is there
    group_name="forecaster",
    kinds={"python", "tensorflow"},
    code_version="2",
    owners=["team:forecasting"],
)
@explained
def tflite_model(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
    """The forecaster as TFLite, proven to answer as Keras does, in the same bundle; says which file serving runs."""
    forecaster, windows = newest_forecaster(platform.home)
    names = ("model.tflite", "model.dynamic.tflite", "model.int8.tflite")
    kept = exported_already(platform.home, forecaster, names)
    with StepProgress(context, "TFLite", "files") as progress:
        if kept is not None:
            bundle, exported = kept
        else:
            progress.say("converting, and comparing with Keras, in processes of their own")
            with tempfile.TemporaryDirectory(prefix=".export-", dir=platform.home) as staging:
                exported = export_tflite(
                    forecaster,
                    Path(staging) / "model.tflite",
                    windows,
                    calibration=calibration_windows(platform.home),
                )
                bundle = add_to_bundle(platform.home, forecaster, exported)
        progress.say("measuring which file answers fastest here")
        serving = serving_metadata(bundle)
    described = bundle_metadata(bundle, exported, already=kept is not None)
    return dg.MaterializeResult(metadata={**described, **serving})
