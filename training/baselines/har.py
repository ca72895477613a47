"""HAR, the heterogeneous autoregressive model of realised volatility (Corsi 2009), per symbol.

The realised volatility over the next h bars is regressed on that of the last h, 5 h and 22 h bars, each expressed for
h bars: with h a day they are Corsi's day, week and month (J. Financial Econometrics 7, 174-196). `har` regresses the
volatilities, `har_log` their logarithms; the latter forecasts the mean of a lognormal, exp(m + s^2 / 2), s^2 being
the variance of the residuals.
"""

from __future__ import annotations

import numpy as np

from training.baselines.past import past_realised_volatility
from training.baselines.protocol import Floats, Predict, Rows, Said
from training.data.training_set import TrainingSet

SPANS = (1, 5, 22)
"""Past spans, in horizons."""
LEAST_ROWS = 50
"""With fewer training rows, a symbol takes the coefficients of all symbols together."""


def har(data: TrainingSet, *, seed: int) -> Predict:
    """Fit HAR in volatilities by ordinary least squares on the training rows."""
    return _har(data, logarithms=False)


def har_log(data: TrainingSet, *, seed: int) -> Predict:
    """Fit HAR in log volatilities by ordinary least squares on the training rows."""
    return _har(data, logarithms=True)


def _har(data: TrainingSet, *, logarithms: bool) -> Predict:
    train = data.rows["train"]
    past, outcome = _past(data, train), data.outcomes(train).realised_volatility.astype(np.float64)
    known = np.isfinite(outcome)
    past, outcome, symbol = past[known], outcome[known], train[known, 1]
    if logarithms:
        past, outcome = np.log(past), np.log(outcome)
    everyone = _least_squares(past, outcome)
    fitted = np.tile(everyone, (len(data.manifest.symbols), 1))
    low, high = np.full(len(fitted), outcome.min()), np.full(len(fitted), outcome.max())
    for s in np.unique(symbol):
        mine = symbol == s
        low[s], high[s] = outcome[mine].min(), outcome[mine].max()
        if mine.sum() >= LEAST_ROWS:
            fitted[s] = _least_squares(past[mine], outcome[mine])

    def predict(rows: Rows) -> Said:
        x = np.log(_past(data, rows)) if logarithms else _past(data, rows)
        coefficients = fitted[rows[:, 1]]
        said = coefficients[:, 0] + (coefficients[:, 1:-1] * x).sum(axis=1)
        # A regression may say a negative volatility: what it never saw in training is not said.
        said = np.clip(said, low[rows[:, 1]], high[rows[:, 1]])
        return Said(volatility=np.exp(said + coefficients[:, -1] / 2) if logarithms else said)

    return predict


def _past(data: TrainingSet, rows: Rows) -> Floats:
    """(n, 3) realised volatilities of the past spans, for h bars each; a span that is not there is the next shorter."""
    h, t, s = data.manifest.config.horizon, rows[:, 0], rows[:, 1]
    last = data.volatility[t, s].astype(np.float64)
    columns = []
    for span in SPANS:
        found = past_realised_volatility(data.close, rows, span * h, scaled_to=h)
        last = np.where(np.isfinite(found) & (found > 0), found, last)
        columns.append(last)
    return np.column_stack(columns)


def _least_squares(x: Floats, y: Floats) -> Floats:
    """Intercept, slopes and variance of the residuals."""
    table = np.column_stack([np.ones(len(x)), x])
    coefficients = np.linalg.lstsq(table, y, rcond=None)[0]
    return np.append(coefficients, np.var(y - table @ coefficients))
