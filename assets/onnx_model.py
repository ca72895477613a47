"""Asset `onnx_model`: the forecaster as ONNX, in the bundle that is used without klinecast."""

import tempfile
from pathlib import Path

import dagster as dg

from assets.failures import explained
from assets.model_bundle import add_to_bundle, calibration_windows, exported_already, newest_forecaster
from assets.model_metadata import bundle_metadata
from assets.platform import Platform
from assets.progress import StepProgress
from training.export.export_onnx import export_onnx


@dg.asset(
    deps=["forecaster"],
    group_name="forecaster",
    kinds={"python", "onnx"},
    code_version="2",
    owners=["team:forecasting"],
)
@explained
def onnx_model(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
    """The forecaster as ONNX, float32 and INT8, each proven to answer as Keras does."""
    forecaster, windows = newest_forecaster(platform.home)
    kept = exported_already(platform.home, forecaster, ("model.onnx", "model.int8.onnx"))
    if kept is not None:
        return dg.MaterializeResult(metadata=bundle_metadata(*kept, already=True))
    with (
        StepProgress(context, "ONNX", "files") as progress,
        tempfile.TemporaryDirectory(prefix=".export-", dir=platform.home) as staging,
    ):
        progress.say("converting, and comparing with Keras, in processes of their own")
        exported = export_onnx(
            forecaster,
            Path(staging) / "model.onnx",
            windows,
            calibration=calibration_windows(platform.home),
        )
        bundle = add_to_bundle(platform.home, forecaster, exported)
    return dg.MaterializeResult(metadata=bundle_metadata(bundle, exported, already=False))
