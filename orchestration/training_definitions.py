"""Code location `training`: the assets that need TensorFlow, in a process of their own."""

import dagster as dg

from assets import (
    control_checks,
    drift,
    forecaster,
    judgement,
    model_checks,
    onnx_model,
    promotion,
    search,
    tflite_model,
    training_set,
)
from orchestration.defs.jobs import DRIFT, SEARCH, TRAIN_AND_EXPORT
from orchestration.defs.policies import with_policies
from orchestration.defs.resources import RESOURCES
from orchestration.defs.retraining import RETRAINING_SCHEDULES, RETRAINING_SENSORS

ASSET_MODULES = (training_set, search, forecaster, judgement, onnx_model, tflite_model, promotion, drift)

defs = dg.Definitions(
    assets=with_policies(dg.load_assets_from_modules(ASSET_MODULES)),
    asset_checks=dg.load_asset_checks_from_modules([control_checks, model_checks]),
    jobs=[TRAIN_AND_EXPORT, SEARCH, DRIFT],
    schedules=RETRAINING_SCHEDULES,
    sensors=RETRAINING_SENSORS,
    resources=RESOURCES,
    executor=dg.in_process_executor,
)
