"""`manifest.json` of a model bundle: everything that a consumer needs besides the model files.

`docs/artifacts.md` tells the fields to people; a test holds it against this model.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kernels.joins import intervals_of
from training.config import CLASSES, Calibration
from training.export.inference_graph import INPUT_NAME
from training.export.parity import ParityReport
from training.network.forecaster_files import ForecasterMeta

LIBRARIES = ("numpy", "tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorSpec(_Part):
    """An input or output of the model."""

    name: str
    shape: tuple[int | Literal["batch"], ...]
    dtype: Literal["float32"] = "float32"
    meaning: str


class GraphNormalisation(_Part):
    """Statistics of the training span. They are part of the graph: a consumer must not apply them."""

    inside_graph: Literal[True] = True
    mean: tuple[float, ...]
    std: tuple[float, ...]
    clip: float


class Span(_Part):
    """Open times of the first and last bar, ms since epoch, UTC; both inclusive."""

    start: int
    end: int


FORMS = {
    "model.onnx": "float32",
    "model.int8.onnx": "INT8 weights, float32 values",
    "model.tflite": "float32",
    "model.dynamic.tflite": "INT8 weights, float32 values",
    "model.int8.tflite": "INT8 weights and 16-bit integer values, from the standardised features to the raw outputs; "
    "float32 before and after",
}
"""What an exported file computes in."""


class FileEntry(_Part):
    """A file of the bundle."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)
    form: str = Field(default="", description="what it computes in; empty: not known")


class Manifest(_Part):
    """Contents of `manifest.json`."""

    format_version: Literal[1] = Field(default=1, description="layout of bundle and manifest")
    model_version: str = Field(description="name of the bundle's folder; later versions sort higher")
    created_at: int = Field(description="when the forecaster was made, ms since epoch, UTC")
    code_version: str = Field(description="version of klinecast that made it")
    forecaster_sha256: str = Field(description="hash over weights and description of the trained forecaster")
    feature_names: tuple[str, ...] = Field(description="features in the order of the input's last axis")
    window: int = Field(description="bars in a window; the last one is the newest closed bar")
    horizon: int = Field(description="bars ahead that is predicted")
    intervals: tuple[str, ...] = Field(description="kline intervals that it reads, its own first")
    classes: tuple[str, ...] = Field(description="columns of output `direction`")
    quantiles: tuple[float, ...] = Field(description="columns of output `quantiles`")
    input: TensorSpec = Field(description="the one input")
    outputs: tuple[TensorSpec, ...] = Field(description="the outputs")
    normalisation: GraphNormalisation = Field(description="for the record; applied inside the graph")
    calibration: Calibration = Field(
        default=Calibration(), description="for the record; applied inside the graph"
    )
    flat_band: float = Field(description="a return within this many horizon volatilities is `flat`")
    volatility_feature: str = Field(description="feature that scales targets and quantiles; see below")
    symbols: tuple[str, ...] = Field(description="symbols that it was trained on")
    training_span: Span = Field(description="bars seen in training")
    split_spans: dict[str, dict[str, int]] = Field(description="where train, validation and test lie")
    seen_until: int | None = Field(
        default=None,
        description="last bar that it, or one whose weights it goes back to, was fitted or tuned on; may be absent",
    )
    metrics: dict[str, Any] = Field(description="figures of the evaluation on the test split")
    parity: dict[str, ParityReport] = Field(description="per file: how it compares with the Keras model")
    library_versions: dict[str, str] = Field(description="libraries that trained and exported it")
    files: dict[str, FileEntry] = Field(
        description="per file: SHA-256, size, and in what numbers it computes (`form`)"
    )


def describe(
    meta: ForecasterMeta,
    *,
    model_version: str,
    created_at: int,
    code_version: str,
    forecaster_sha256: str,
    metrics: dict[str, Any],
) -> Manifest:
    """Make the manifest of a forecaster, without files yet."""
    config, train = meta.config, meta.spans["train"]
    return Manifest(
        model_version=model_version,
        created_at=created_at,
        code_version=code_version,
        forecaster_sha256=forecaster_sha256,
        feature_names=meta.feature_names,
        window=config.window,
        horizon=config.horizon,
        intervals=intervals_of(meta.feature_names, meta.interval),
        classes=CLASSES,
        quantiles=config.quantiles,
        input=TensorSpec(
            name=INPUT_NAME,
            shape=("batch", config.window, len(meta.feature_names)),
            meaning="raw features of closed bars, oldest first; all finite",
        ),
        outputs=_outputs(meta),
        normalisation=GraphNormalisation(**meta.normalisation.model_dump()),
        calibration=meta.calibration,
        flat_band=config.flat_band,
        volatility_feature=meta.volatility_feature,
        symbols=meta.symbols,
        training_span=Span(start=train.first_feature_time, end=train.last_label_time),
        split_spans={name: span.model_dump() for name, span in meta.spans.items()},
        seen_until=meta.seen_until,
        metrics=metrics,
        parity={},
        library_versions=library_versions(meta),
        files={},
    )


def _outputs(meta: ForecasterMeta) -> tuple[TensorSpec, ...]:
    return (
        TensorSpec(
            name="direction", shape=("batch", len(CLASSES)), meaning="probabilities of `classes`, sum 1"
        ),
        TensorSpec(
            name="quantiles",
            shape=("batch", len(meta.config.quantiles)),
            meaning="`quantiles` of log(close[t + horizon] / close[t])",
        ),
        TensorSpec(
            name="volatility",
            shape=("batch", 1),
            meaning="realised volatility of bars t + 1..t + horizon: root of the sum of squared 1-bar log returns",
        ),
    )


def library_versions(meta: ForecasterMeta) -> dict[str, str]:
    """Versions of what is installed here; for the libraries that trained the forecaster, the ones then."""
    installed = {}
    for name in LIBRARIES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    trained = {name: meta.environment[name] for name in LIBRARIES if name in meta.environment}
    return {**installed, **{f"{name} (training)": found for name, found in trained.items()}}
