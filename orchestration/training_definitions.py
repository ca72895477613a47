"""Code location `training`: the assets that need TensorFlow, in a process of their own."""

import dagster as dg

from assets import forecaster, model_checks, onnx_model, tflite_model, training_set
from orchestration.defs.jobs import TRAIN_AND_EXPORT
from orchestration.defs.policies import with_policies
from orchestration.defs.resources import RESOURCES

ASSET_MODULES = (training_set, forecaster, onnx_model, tflite_model)

defs = dg.Definitions(
    assets=with_policies(dg.load_assets_from_modules(ASSET_MODULES)),
    asset_checks=dg.load_asset_checks_from_modules([model_checks]),
    jobs=[TRAIN_AND_EXPORT],
    resources=RESOURCES,
    executor=dg.in_process_executor,
)
