"""Asset `onnx_model`: the forecaster as ONNX, in the bundle that is used without klinecast."""

import dagster as dg

from assets.exporting import export_newest
from assets.failures import explained
from assets.model_metadata import bundle_metadata
from assets.platform import Platform
from training.export.formats import ONNX


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
    bundle, exported, already = export_newest(context, platform, ONNX)
    return dg.MaterializeResult(metadata=bundle_metadata(bundle, exported, already=already))
