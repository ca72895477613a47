"""Code location `platform`: everything but training; it never loads TensorFlow."""

import dagster as dg

from assets import anomalies, features, klines, klines_checks, predictions, store_checks, universe
from orchestration.defs.jobs import INGEST, MAKE_FEATURES, PREDICTION_SWEEP, VERIFY
from orchestration.defs.policies import with_policies
from orchestration.defs.resources import RESOURCES
from orchestration.defs.schedules import FEATURES_SCHEDULE, INGEST_SCHEDULE, SWEEP_SCHEDULE, VERIFY_SCHEDULE
from orchestration.defs.sensors import failure_log

ASSET_MODULES = (universe, klines, features, anomalies, predictions)

defs = dg.Definitions(
    assets=with_policies(dg.load_assets_from_modules(ASSET_MODULES)),
    asset_checks=dg.load_asset_checks_from_modules([klines_checks, store_checks]),
    jobs=[INGEST, MAKE_FEATURES, PREDICTION_SWEEP, VERIFY],
    schedules=[INGEST_SCHEDULE, FEATURES_SCHEDULE, SWEEP_SCHEDULE, VERIFY_SCHEDULE],
    sensors=[failure_log],
    resources=RESOURCES,
    executor=dg.in_process_executor,
)
