"""Jobs: which assets are made together."""

import dagster as dg

from assets.store_checks import INTACT

ONE_AT_A_TIME_TAG = "klinecast/one_at_a_time"

# The queue runs one of these at a time (orchestration/instance.py): a second training would only halve the first one.
_ONE_AT_A_TIME = {ONE_AT_A_TIME_TAG: "train_and_export", "dagster/max_runtime": "7200"}

INGEST = dg.define_asset_job(
    "ingest",
    selection=dg.AssetSelection.assets("universe", "klines") - dg.AssetSelection.checks(INTACT),
    description="Choose the symbols and fetch the bars that are missing, then check them.",
    tags={"dagster/priority": "1"},
)

VERIFY = dg.define_asset_job(
    "verify",
    selection=dg.AssetSelection.checks(INTACT),
    description="Read every stored bar, and hold every file against the SHA-256 that it was written with.",
)

MAKE_FEATURES = dg.define_asset_job(
    "make_features",
    selection=dg.AssetSelection.assets("features", "anomalies"),
    description="Compute the features of the stored bars and flag anomalies.",
)

PREDICTION_SWEEP = dg.define_asset_job(
    "prediction_sweep",
    selection=dg.AssetSelection.assets("predictions"),
    description="Predict every symbol at its newest closed bar, in one process, with onnxruntime alone.",
    executor_def=dg.in_process_executor,
    tags={"dagster/priority": "10", "dagster/max_runtime": "300"},
)

TRAIN_AND_EXPORT = dg.define_asset_job(
    "train_and_export",
    selection=dg.AssetSelection.assets(
        "training_set", "forecaster", "judgement", "onnx_model", "tflite_model", "champion"
    ),
    description="Build the training set, train the forecaster, judge it beside its baselines, export it, check the"
    " exports, and hold it against the champion.",
    tags=_ONE_AT_A_TIME,
)

SEARCH = dg.define_asset_job(
    "search",
    selection=dg.AssetSelection.assets("architecture_search"),
    description="Try other settings and features on the newest training set, and write the best ones down.",
    tags=_ONE_AT_A_TIME,
)

DRIFT = dg.define_asset_job(
    "watch_drift",
    selection=dg.AssetSelection.assets("drift"),
    description="Hold the newest features against those that the champion learned from, and its predictions against"
    " what came.",
)
