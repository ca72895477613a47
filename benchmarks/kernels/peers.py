"""The same indicators in the libraries that people use instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import talib
from talib import stream as handles
from talipp import indicators as talipp
from talipp.ohlcv import OHLCV

TWENTY = (
    "sma_20", "ema_20", "wma_20", "dema_20", "tema_20", "kama_10", "rsi_14",
    "macd_12_26", "macd_signal_12_26_9", "macd_hist_12_26_9",
    "bollinger_upper_20_2", "bollinger_middle_20", "bollinger_lower_20_2",
    "atr_14", "adx_14", "stoch_k_14_3", "stoch_d_14_3_3", "williams_r_14", "cci_20",
    "aroon_up_14", "aroon_down_14", "obv", "mfi_14", "roc_10", "trix_15", "std_20",
)  # fmt: skip
"""Our names of the 26 outputs of 20 indicators."""
THIRTY_ONE = (*TWENTY, "natr_14", "plus_di_14", "minus_di_14", "cmf_20", "ultosc_7_14_28")

Columns = dict[str, np.ndarray]


def talib_twenty(symbol: Columns) -> tuple[Any, ...]:
    """Compute the 20 indicators of one symbol; arrays of float64."""
    h, lo, c, v = (symbol[name] for name in ("high", "low", "close", "volume"))
    return (
        talib.SMA(c, 20), talib.EMA(c, 20), talib.WMA(c, 20), talib.DEMA(c, 20), talib.TEMA(c, 20),
        talib.KAMA(c, 10), talib.RSI(c, 14), talib.MACD(c, 12, 26, 9), talib.BBANDS(c, 20, 2, 2),
        talib.ATR(h, lo, c, 14), talib.ADX(h, lo, c, 14), talib.STOCH(h, lo, c, 14, 3, 0, 3, 0),
        talib.WILLR(h, lo, c, 14), talib.CCI(h, lo, c, 20), talib.AROON(h, lo, 14), talib.OBV(c, v),
        talib.MFI(h, lo, c, v, 14), talib.ROC(c, 10), talib.TRIX(c, 15), talib.STDDEV(c, 20),
    )  # fmt: skip


def talib_handles(symbol: Columns) -> list[tuple[Any, tuple[str, ...]]]:
    """Open TA-Lib's stream handles for the indicators behind `THIRTY_ONE`, each with the columns that it is fed."""
    h, lo, c, v = (symbol[name] for name in ("high", "low", "close", "volume"))
    close, range_, bar, flow = ("close",), ("high", "low"), ("high", "low", "close"), ("close", "volume")
    full = ("high", "low", "close", "volume")
    return [
        (handles.SMA(c, 20), close), (handles.EMA(c, 20), close), (handles.WMA(c, 20), close),
        (handles.DEMA(c, 20), close), (handles.TEMA(c, 20), close), (handles.KAMA(c, 10), close),
        (handles.RSI(c, 14), close), (handles.MACD(c, 12, 26, 9), close), (handles.BBANDS(c, 20, 2, 2), close),
        (handles.ATR(h, lo, c, 14), bar), (handles.ADX(h, lo, c, 14), bar),
        (handles.STOCH(h, lo, c, 14, 3, 0, 3, 0), bar), (handles.WILLR(h, lo, c, 14), bar),
        (handles.CCI(h, lo, c, 20), bar), (handles.AROON(h, lo, 14), range_), (handles.OBV(c, v), flow),
        (handles.MFI(h, lo, c, v, 14), full), (handles.ROC(c, 10), close), (handles.TRIX(c, 15), close),
        (handles.STDDEV(c, 20), close), (handles.NATR(h, lo, c, 14), bar), (handles.PLUS_DI(h, lo, c, 14), bar),
        (handles.MINUS_DI(h, lo, c, 14), bar), (handles.CMF(h, lo, c, v, 20), full),
        (handles.ULTOSC(h, lo, c, 7, 14, 28), bar),
    ]  # fmt: skip


def talipp_twenty() -> tuple[list[Any], list[Any]]:
    """Make talipp's indicators of one symbol: those fed with closes, and those fed with bars."""
    closes = [
        talipp.SMA(20), talipp.EMA(20), talipp.WMA(20), talipp.DEMA(20), talipp.TEMA(20), talipp.KAMA(10, 2, 30),
        talipp.RSI(14), talipp.MACD(12, 26, 9), talipp.BB(20, 2), talipp.ROC(10), talipp.TRIX(15),
        talipp.StdDev(20),
    ]  # fmt: skip
    bars = [
        talipp.ATR(14), talipp.ADX(14, 14), talipp.Stoch(14, 3), talipp.Williams(14), talipp.CCI(20),
        talipp.Aroon(14), talipp.OBV(), talipp.ChaikinOsc(3, 10),  # it has no MFI
    ]  # fmt: skip
    return closes, bars


def talipp_bar(symbol: Columns, t: int) -> OHLCV:
    """One bar as talipp takes it."""
    return OHLCV(*(float(symbol[name][t]) for name in ("open", "high", "low", "close", "volume")))


def pandas_twenty(symbol: dict[str, pd.Series]) -> list[Any]:
    """Compute the 20 indicators of one symbol as people write them in pandas."""
    o, h, lo, c, v = (symbol[name] for name in ("open", "high", "low", "close", "volume"))
    del o
    return [function(h, lo, c, v) for function in _PANDAS]


def _span(x: pd.Series, n: int) -> pd.Series:
    return x.ewm(span=n, adjust=False).mean()


def _wilder(x: pd.Series, n: int) -> pd.Series:
    return x.ewm(alpha=1 / n, adjust=False).mean()


def _true_range(h: pd.Series, lo: pd.Series, c: pd.Series) -> pd.Series:
    before = c.shift()
    return pd.concat([h - lo, (h - before).abs(), (lo - before).abs()], axis=1).max(axis=1)


def _kama(c: pd.Series) -> pd.Series:
    efficiency = (c.diff(10).abs() / c.diff().abs().rolling(10).sum()).to_numpy()
    smoothing = (efficiency * (2 / 3 - 2 / 31) + 2 / 31) ** 2
    x, out = c.to_numpy(), np.full(len(c), np.nan)
    level = x[9]
    for i in range(10, len(x)):
        level = level + smoothing[i] * (x[i] - level)
        out[i] = level
    return pd.Series(out)


def _rsi(c: pd.Series) -> pd.Series:
    change = c.diff()
    return 100 - 100 / (1 + _wilder(change.clip(lower=0), 14) / _wilder(-change.clip(upper=0), 14))


def _macd(c: pd.Series) -> tuple[pd.Series, ...]:
    line = _span(c, 12) - _span(c, 26)
    signal = _span(line, 9)
    return line, signal, line - signal


def _bollinger(c: pd.Series) -> tuple[pd.Series, ...]:
    window = c.rolling(20)
    middle, spread = window.mean(), window.std(ddof=0)
    return middle + 2 * spread, middle, middle - 2 * spread


def _adx(h: pd.Series, lo: pd.Series, c: pd.Series) -> pd.Series:
    up, down = h.diff(), -lo.diff()
    plus = up.where((up > down) & (up > 0), 0.0)
    minus = down.where((down > up) & (down > 0), 0.0)
    span = _wilder(_true_range(h, lo, c), 14)
    p, m = 100 * _wilder(plus, 14) / span, 100 * _wilder(minus, 14) / span
    return _wilder(100 * (p - m).abs() / (p + m), 14)


def _stochastic(h: pd.Series, lo: pd.Series, c: pd.Series) -> tuple[pd.Series, ...]:
    bottom, top = lo.rolling(14).min(), h.rolling(14).max()
    k = (100 * (c - bottom) / (top - bottom)).rolling(3).mean()
    return k, k.rolling(3).mean()


def _williams(h: pd.Series, lo: pd.Series, c: pd.Series) -> pd.Series:
    bottom, top = lo.rolling(14).min(), h.rolling(14).max()
    return -100 * (top - c) / (top - bottom)


def _cci(h: pd.Series, lo: pd.Series, c: pd.Series) -> pd.Series:
    price = (h + lo + c) / 3
    window = price.rolling(20)
    deviation = window.apply(lambda x: np.abs(x - x.mean()).mean(), raw=True)
    return (price - window.mean()) / (0.015 * deviation)


def _mfi(h: pd.Series, lo: pd.Series, c: pd.Series, v: pd.Series) -> pd.Series:
    price = (h + lo + c) / 3
    flow, change = price * v, price.diff()
    inflow = flow.where(change > 0, 0.0).rolling(14).sum()
    return 100 - 100 / (1 + inflow / flow.where(change < 0, 0.0).rolling(14).sum())


_WEIGHTS = np.arange(1, 21) / 210.0
_PANDAS: tuple[Callable[..., Any], ...] = (
    lambda h, lo, c, v: c.rolling(20).mean(),
    lambda h, lo, c, v: _span(c, 20),
    lambda h, lo, c, v: c.rolling(20).apply(lambda x: x @ _WEIGHTS, raw=True),
    lambda h, lo, c, v: 2 * _span(c, 20) - _span(_span(c, 20), 20),
    lambda h, lo, c, v: 3 * (_span(c, 20) - _span(_span(c, 20), 20)) + _span(_span(_span(c, 20), 20), 20),
    lambda h, lo, c, v: _kama(c),
    lambda h, lo, c, v: _rsi(c),
    lambda h, lo, c, v: _macd(c),
    lambda h, lo, c, v: _bollinger(c),
    lambda h, lo, c, v: _wilder(_true_range(h, lo, c), 14),
    lambda h, lo, c, v: _adx(h, lo, c),
    lambda h, lo, c, v: _stochastic(h, lo, c),
    lambda h, lo, c, v: _williams(h, lo, c),
    lambda h, lo, c, v: _cci(h, lo, c),
    lambda h, lo, c, v: (h.rolling(15).apply(np.argmax, raw=True), lo.rolling(15).apply(np.argmin, raw=True)),
    lambda h, lo, c, v: (np.sign(c.diff()).fillna(0) * v).cumsum(),
    lambda h, lo, c, v: _mfi(h, lo, c, v),
    lambda h, lo, c, v: c.pct_change(10) * 100,
    lambda h, lo, c, v: _span(_span(_span(c, 15), 15), 15).pct_change() * 100,
    lambda h, lo, c, v: c.rolling(20).std(ddof=0),
)
