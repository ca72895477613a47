"""The figures as Markdown, for people and for docs/judgement.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.judgement.names import FORECASTS, SCORES, number, span
from training.judgement.scoring import COMPARED

_FIRST = ("accuracy", "balanced_accuracy", "auc_sign", "log_loss", "brier", "ece", "pinball", "coverage")
_SECOND = (
    "rank_ic",
    "gross_bps",
    "net_bps",
    "turnover",
    "volatility_r2",
    "volatility_log_r2",
    "volatility_qlike",
)


def markdown(told: Mapping[str, Any]) -> str:
    """Words, tables and controls of one run."""
    parts = [
        "\n".join(f"- {line}" for line in told["words"]),
        _table(told["table"], _FIRST),
        _table(told["table"], _SECOND),
        "Difference from each baseline, positive in favour of the Transformer-LSTM; **bold**: better, _italic_: worse,"
        " plain: cannot be told:",
        _differences(told["differences"]),
    ]
    if "controls" in told:
        parts.append(_controls(told["controls"]))
    return "\n\n".join(parts)


def _table(table: Mapping[str, Any], scores: Sequence[str]) -> str:
    rows = []
    for name, found in table.items():
        if any(score in found for score in scores):
            rows.append([FORECASTS.get(name, name), *(_figure(score, found.get(score)) for score in scores)])
    return _lines(["forecast", *(SCORES[score] for score in scores)], rows)


def _differences(differences: Sequence[Mapping[str, Any]]) -> str:
    by_baseline: dict[str, dict[str, str]] = {}
    for d in differences:
        text = _figure(d["score"], d["figure"], signed=True)
        value, _, rest = text.partition(" ")
        mark = {"better": "**", "worse": "_"}.get(d["verdict"], "")
        by_baseline.setdefault(d["baseline"], {})[d["score"]] = f"{mark}{value}{mark} {rest}"
    scores = [score for score in COMPARED if any(score in found for found in by_baseline.values())]
    rows = [[FORECASTS.get(n, n), *(found.get(s, "") for s in scores)] for n, found in by_baseline.items()]
    return _lines(["against", *(SCORES[score] for score in scores)], rows)


def _controls(controls: Mapping[str, Any]) -> str:
    rows = []
    for name in ("shuffled_labels", "random_walk"):
        found = controls[name]
        auc = found["auc_sign"]
        told = f"AUC {auc['value']:.4f} [{auc['low']:.4f}, {auc['high']:.4f}] at {found['level']:.2%}"
        rows.append([name.replace("_", " "), told, "passed" if found["passed"] else "FAILED"])
    planted = controls["planted_signal"]
    told = f"{planted['share']:.0%} of the best possible information, at least {planted['least_share']:.0%} asked"
    rows.append(["planted signal", told, "passed" if planted["passed"] else "FAILED"])
    return _lines(["control", "found", ""], rows)


def _figure(score: str, figure: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    if figure is None:
        return ""
    interval = span(score, figure["low"], figure["high"], signed=signed)
    return f"{number(score, figure['value'], signed=signed)} {interval}".strip()


def _lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
