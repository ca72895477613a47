"""Asset `tflite_model`: the forecaster as TFLite, in the bundle that is used without klinecast."""

import dagster as dg

from assets.exporting import export_newest
from assets.failures import explained
from assets.model_metadata import bundle_metadata, serving_metadata
from assets.platform import Platform
from assets.progress import StepProgress
from training.export.formats import TFLITE


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
    bundle, exported, already = export_newest(context, platform, TFLITE)
    with StepProgress(context, "TFLite", "files") as progress:
        serving = serving_metadata(bundle, progress.say)
    return dg.MaterializeResult(metadata={**bundle_metadata(bundle, exported, already=already), **serving})
