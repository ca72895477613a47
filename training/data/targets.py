"""What the forecaster is asked for, as formulas over closed bars.

With close price c, horizon h in bars, and v the feature `realised_vol_<n>` (standard deviation of the 1-bar
log returns of the last n bars, known when bar t closes)::

    r[t]         = log(c[t + h] / c[t])              log return over the horizon
    v_h[t]       = v[t] * sqrt(h)                    its volatility, were the returns independent
    scaled[t]    = r[t] / v_h[t]                     what the quantile head learns
    direction[t] = 0 down   if scaled[t] < -flat_band
                   2 up     if scaled[t] > +flat_band
                   1 flat   otherwise
    rv[t]        = sqrt(sum of log(c[i] / c[i - 1])^2 for i = t + 1..t + h)
                                                     realised volatility over the horizon

The row of bar t has a target only if every bar t..t+h is present: a return across a gap is not a return over
h bars. Where no price moved in t..t+h, rv is zero, which has no logarithm: the row teaches the direction and the
quantiles, but not the volatility.
"""

from __future__ import annotations

import numpy as np

from kernels.joins import split_name
from training.config import DOWN, FLAT, UP
from training.errors import TrainingSetError

NO_TARGET = -1
"""`direction` where there is no target."""

VOLATILITY_PREFIX = "realised_vol_"


def forward_log_return(close: np.ndarray, horizon: int) -> np.ndarray:
    """Log return of the next `horizon` bars.

    Parameters
    ----------
    close
        (T, ...) close prices, NaN where a bar is missing.
    horizon
        Bars ahead.

    Returns
    -------
    ndarray
        float64 like `close`; NaN where one of the bars t..t+horizon is missing or not a positive price, and
        in the last `horizon` rows.
    """
    close = np.asarray(close, np.float64)
    present = np.isfinite(close) & (close > 0)
    price = np.log(np.where(present, close, 1.0))
    result = np.full(close.shape, np.nan)
    steps = close.shape[0] - horizon
    if steps <= 0:
        return result
    absent = np.zeros((close.shape[0] + 1, *close.shape[1:]), np.int64)
    np.cumsum(~present, axis=0, out=absent[1:])
    whole = absent[horizon + 1 :] == absent[:steps]  # none absent among bars t..t+horizon
    result[:steps] = np.where(whole, price[horizon:] - price[:steps], np.nan)
    return result


def forward_realised_volatility(close: np.ndarray, horizon: int) -> np.ndarray:
    """Realised volatility of the next `horizon` bars: root of the sum of squared 1-bar log returns.

    Parameters
    ----------
    close
        (T, ...) close prices, NaN where a bar is missing.
    horizon
        Bars ahead.

    Returns
    -------
    ndarray
        float64 like `close`, a log-return figure over the horizon (not annualised); NaN where one of the bars
        t..t+horizon is missing or not a positive price, in the last `horizon` rows, and where it is zero.
    """
    steps = forward_log_return(close, 1)  # from each bar to the next
    whole = np.isfinite(forward_log_return(close, horizon))
    squares = np.where(np.isfinite(steps), steps, 0.0) ** 2
    total = np.zeros(squares.shape)
    # Each sum is taken anew: the difference of two running sums would leave a remainder where nothing moved.
    for ahead in range(min(horizon, len(squares))):
        total[: len(total) - ahead] += squares[ahead:]
    return np.where(whole & (total > 0), np.sqrt(total), np.nan)


def horizon_volatility(volatility: np.ndarray, horizon: int) -> np.ndarray:
    """Volatility over the horizon, v * sqrt(h), float64; NaN where it is not a positive finite number."""
    v = np.asarray(volatility, np.float64)
    return np.where(np.isfinite(v) & (v > 0), v, np.nan) * np.sqrt(horizon)


def direction_of(scaled: np.ndarray, flat_band: float) -> np.ndarray:
    """Direction class (int8) of scaled returns; `NO_TARGET` where they are NaN."""
    classes = np.full(np.shape(scaled), FLAT, np.int8)
    classes[scaled > flat_band] = UP
    classes[scaled < -flat_band] = DOWN
    classes[~np.isfinite(scaled)] = NO_TARGET
    return classes


def find_volatility_feature(names: tuple[str, ...], chosen: str | None = None) -> str:
    """Name of the feature that scales the targets.

    Raises
    ------
    TrainingSetError
        `chosen` is not among the features; or none was chosen and there is not exactly one
        `realised_vol_<n>`.
    """
    own = [name for name in names if split_name(name)[1] is None]  # of a longer interval: another unit
    candidates = [name for name in own if name.startswith(VOLATILITY_PREFIX)]
    if chosen is not None:
        if chosen in own:
            return chosen
        problem = f"volatility feature {chosen} is not among the features of the model's own interval"
    elif len(candidates) == 1:
        return candidates[0]
    else:
        problem = f"{len(candidates)} features could scale the targets ({', '.join(candidates) or 'none'})"
    raise TrainingSetError(
        problem,
        where="ForecasterConfig.volatility_feature",
        remedy=f"compute one {VOLATILITY_PREFIX}<n> feature, or name the one to use",
    )
