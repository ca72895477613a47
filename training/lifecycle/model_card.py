"""Model cards: what a version is, was made from, can and cannot do, in words for people; from facts alone.

(Mitchell et al. 2019, "Model Cards for Model Reporting".) The facts are those of the manifest and of the forecaster's
description; nothing is said that is in neither of them or in a report that is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kernels.catalogue import spec
from kernels.errors import UnknownFeature
from kernels.joins import split_name
from market.wording import count, utc
from training import known_best
from training.export.manifest import Manifest
from training.lifecycle.unseen import seen_until
from training.network.forecaster_files import ForecasterMeta, InitialForecaster

CARD_FILE = "model_card.md"
_SCORES = ("accuracy", "balanced_accuracy", "auc_sign", "log_loss", "brier", "pinball", "coverage")
_OWN_GROUP = "own"
_MEANT_FOR = (
    "Forecasts of direction, return quantiles and volatility for people and programs that weigh them with other facts."
    " It does not trade, and none of its answers is advice."
)


def render_card(
    manifest: Manifest,
    meta: ForecasterMeta | None = None,
    *,
    trials: int | None = None,
    left_out: Mapping[str, int] | None = None,
    findings: Mapping[str, Sequence[str]] | None = None,
    market: str | None = None,
) -> str:
    """Write the card of one version as Markdown.

    Parameters
    ----------
    manifest
        Of its bundle.
    meta
        Description of the forecaster; without it the card lacks how it was trained.
    trials
        Forecasters that had been tried when this one was published; None where nobody counted.
    left_out
        Rows of its training set that no split holds, by reason.
    findings
        Further sections, title to sentences: what a judgement, controls or other reports say.
    market
        Whose bars it was trained and judged on, in words; None where nobody knows.
    """
    sections = [
        (f"Model {manifest.model_version}", _what(manifest)),
        ("Data", _data(manifest, left_out or {}, market)),
        ("Features", _features(manifest)),
        *([("Training", _training(meta, trials))] if meta else []),
        ("Scores on bars it has not seen", _scores(manifest)),
        *[
            (title, [f"- {sentence}" for sentence in said])
            for title, said in (findings or {}).items()
            if said
        ],
        ("Files", _files(manifest)),
        ("Limits", _limits(manifest)),
        ("Use", _use(manifest)),
    ]
    parts = [
        f"{'#' if i == 0 else '##'} {title}\n\n" + "\n".join(body) for i, (title, body) in enumerate(sections)
    ]
    return "\n\n".join(parts) + "\n"


def _what(manifest: Manifest) -> list[str]:
    own = manifest.intervals[0]
    return [
        f"A Transformer-LSTM over the last {manifest.window} closed {own} bars of one symbol, published by klinecast"
        f" {manifest.code_version}, made at {utc(manifest.created_at)}.",
        "",
        f"It says what the next {manifest.horizon} bars bring:",
        "",
        *[f"- `{output.name}` {_shape(output.shape)}: {output.meaning}" for output in manifest.outputs],
        "",
        f"Classes: {', '.join(manifest.classes)}. A return within {manifest.flat_band:g} times the volatility over the"
        f" horizon (`{manifest.volatility_feature}` times the root of {manifest.horizon}) is flat. Quantiles:"
        f" {', '.join(f'{level:g}' for level in manifest.quantiles)}.",
        "",
        _MEANT_FOR,
    ]


def _data(manifest: Manifest, left_out: Mapping[str, int], market: str | None) -> list[str]:
    rows = [
        (
            name,
            f"{span['rows']:,}",
            utc(span["first_open_time"]),
            utc(span["last_open_time"]),
            utc(span["last_label_time"]),
        )
        for name, span in manifest.split_spans.items()
    ]
    told = [f"Bars of {market}.", ""] if market else []
    told += _table(("split", "rows", "first window ends", "last window ends", "last label"), rows)
    symbols = manifest.symbols
    told += [
        "",
        f"{len(symbols)} symbols: {', '.join(symbols)}.",
        f"Intervals read: {', '.join(manifest.intervals)}.",
    ]
    if left_out:
        told += ["", "Rows that no split holds:", ""]
        told += _table(("why", "rows"), [(name, f"{number:,}") for name, number in left_out.items()])
    return told


def _features(manifest: Manifest) -> list[str]:
    groups: dict[str, list[str]] = {}
    for name in manifest.feature_names:
        groups.setdefault(feature_group(name), []).append(f"`{name}`")
    listed = [f"- {group}: {', '.join(names)}" for group, names in groups.items()]
    return [
        f"{len(manifest.feature_names)}, standardised inside the graph by the training span:",
        "",
        *listed,
    ]


def feature_group(name: str) -> str:
    """Return the catalogue's group of a feature (of ``rsi_14@1h`` that of ``rsi_14``), or ``own`` if it has none."""
    try:
        return spec(split_name(name)[0]).group
    except UnknownFeature:
        return _OWN_GROUP


def _training(meta: ForecasterMeta, trials: int | None) -> list[str]:
    config = meta.config
    changed = config.model_dump(exclude_defaults=True)
    settings = ", ".join(f"{name} {value}" for name, value in changed.items()) or "none"
    told = [
        f"- Settings that differ from the defaults: {settings}.",
        f"- Architecture: width {config.width}, {count(config.blocks, 'attention block')} of"
        f" {count(config.heads, 'head')}, LSTM of {count(config.lstm_units, 'unit')},"
        f" dropout {config.dropout:g}, seed {config.seed}.",
        f"- {count(len(meta.history), 'epoch')}, the best by validation loss was epoch {meta.best_epoch}.",
        f"- Environment: {', '.join(f'{name} {value}' for name, value in meta.environment.items())}.",
        f"- Training set {meta.training_set_id}, run {meta.run_id}.",
    ]
    facts = meta.model_dump(mode="json")
    start = facts.get("initial")
    told.append(f"- Start: {f'warm, from {_short(start)}' if start else 'cold, from random weights'}.")
    if meta.initial is not None:
        told.append(f"- {_went_by(meta.initial)}")
    if facts.get("calibration"):
        told.append(
            f"- Calibration, fitted on the validation split and inside the graph: {_short(facts['calibration'])}."
        )
    if trials is not None:
        told.append(f"- Forecasters tried in this home when it was published, this one included: {trials:,}.")
    return told


def _went_by(initial: InitialForecaster) -> str:
    if initial.unseen_validation_rows:
        return (
            f"It was stopped and calibrated by the {initial.unseen_validation_rows:,} validation rows that the weights"
            " it began with had not seen."
        )
    return (
        "It was stopped and calibrated by validation rows that the weights it began with had partly seen: its"
        " validation loss is too good, and it may be too sure of itself."
    )


def _scores(manifest: Manifest) -> list[str]:
    metrics = manifest.metrics
    forecasts = {
        name: found for name, found in metrics.items() if isinstance(found, dict) and "auc_sign" in found
    }
    if not forecasts:
        return ["It was published without figures of an evaluation."]
    columns = [score for score in _SCORES if any(score in found for found in forecasts.values())]
    rows = [(name, *(_score(found, score) for score in columns)) for name, found in forecasts.items()]
    told = [
        f"{metrics.get('rows', 0):,} rows of the {metrics.get('split', 'test')} split. "
        + (
            "In brackets: 95 % interval of a bootstrap of blocks."
            if any(f.get(f"{s}_interval") for f in forecasts.values() for s in columns)
            else "No intervals: the rows span too short a time."
        ),
        "",
    ]
    told += _table(("forecast", *columns), rows)
    if best := metrics.get("against_best"):
        told += ["", f"The best forecast of this simulated market is known. {_best(metrics, best)}"]
    return told


def _best(metrics: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    area = _score(metrics.get("model") or {}, "auc_sign")
    return f"AUC of the sign {area}; {known_best.in_words(best)}."


def _files(manifest: Manifest) -> list[str]:
    rows = []
    for name, entry in manifest.files.items():
        report = manifest.parity.get(name)
        compared = f"agreement {report.agreement:.4f} on {report.windows:,} windows" if report else ""
        worst = f"{max(report.max_abs_difference.values()):.2g}" if report else ""
        rows.append((name, f"{entry.bytes:,}", worst, compared))
    told = _table(("file", "bytes", "largest difference from Keras", "same class as Keras"), rows)
    dropped = [name for name in manifest.parity if name not in manifest.files]
    return told + (["", f"Left out, not close enough to Keras: {', '.join(dropped)}."] if dropped else [])


def _limits(manifest: Manifest) -> list[str]:
    test = manifest.split_spans.get("test")
    known = utc(seen_until(manifest))
    told = [
        f"- It knows {len(manifest.symbols)} symbols and bars up to {known};"
        " other symbols, later regimes and other venues are not covered by its figures.",
        "- A window with a missing value has no answer (NaN). Nothing is to be filled in.",
    ]
    if test:
        days = (test["last_open_time"] - test["first_open_time"]) / 86_400_000
        told.insert(1, f"- Its figures are of one span of {days:.1f} days.")
    model = manifest.metrics.get("model") or {}
    interval = model.get("auc_sign_interval")
    if "auc_sign" in model and not interval:
        told.append(
            "- No skill in the sign of the return is shown: its rows span too short a time for an interval of the AUC."
        )
    if interval and interval[0] <= 0.5:
        told.append(
            f"- No skill in the sign of the return is shown: the interval of its AUC, [{interval[0]:.3f},"
            f" {interval[1]:.3f}], holds 0.5."
        )
    return told


def _use(manifest: Manifest) -> list[str]:
    name, shape = manifest.input.name, _shape(manifest.input.shape)
    return [
        f"Feed `{name}` {shape} float32: {manifest.input.meaning}; in the order of `feature_names` in"
        " `manifest.json`. Hold every file against its SHA-256 there first. With onnxruntime:",
        "",
        "```python",
        'session = onnxruntime.InferenceSession("model.onnx")',
        f'answers = session.run({[output.name for output in manifest.outputs]}, {{"{name}": window}})',
        "```",
        "",
        f"In klinecast: `klinecast models use {manifest.model_version}`.",
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]


def _score(found: Mapping[str, Any], score: str) -> str:
    value, interval = found.get(score), found.get(f"{score}_interval")
    if value is None:
        return ""
    return f"{value:.4f}" + (f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else "")


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(each)}" for name, each in value.items() if each is not None)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return " ".join(_short(each) for each in value)
    return str(value)


def _shape(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))})"
