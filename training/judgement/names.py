"""How forecasts and scores are called in what people read."""

from __future__ import annotations

from typing import Final

FORECASTS: Final = {
    "transformer_lstm": "Transformer-LSTM",
    "always_flat": "always flat",
    "persistence": "persistence",
    "base_rate": "base rate",
    "logistic": "logistic regression",
    "boosting": "gradient boosting",
    "plain_lstm": "plain LSTM",
    "har": "HAR",
    "har_log": "HAR of logarithms",
}

SCORES: Final = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auc_sign": "AUC of the sign",
    "log_loss": "log loss",
    "brier": "Brier score",
    "ece": "calibration error",
    "pinball": "pinball loss",
    "coverage": "coverage",
    "rank_ic": "rank IC across symbols",
    "rank_ic_time": "rank IC over time",
    "volatility_r2": "volatility R²",
    "volatility_log_r2": "log volatility R²",
    "volatility_qlike": "volatility QLIKE",
    "gross_bps": "gross return, bps",
    "net_bps": "net return, bps",
    "turnover": "turnover",
    "sharpe_net": "Sharpe ratio, net",
}

DIGITS: Final = {"gross_bps": 2, "net_bps": 2, "turnover": 3, "sharpe_net": 2}
"""Digits shown after the point; else 4."""


def number(score: str, value: float, *, signed: bool = False) -> str:
    """A score as it is shown."""
    return f"{value:{'+' if signed else ''}.{DIGITS.get(score, 4)}f}"


def span(score: str, low: float | None, high: float | None, *, signed: bool = False) -> str:
    """An interval as it is shown; nothing where there is none."""
    if low is None or high is None:
        return ""
    return f"[{number(score, low, signed=signed)}, {number(score, high, signed=signed)}]"
