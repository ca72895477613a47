"""Against results that others recorded: TA-Lib 0.8 on real series, and Skender's indicators."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from kernels.compute import run_batch
from kernels.engine import engine_for
from kernels.sample import SamplePanel

TALIB = {
    "sma_20": "SMA_20", "ema_20": "EMA_20", "wma_20": "WMA_20", "dema_20": "DEMA_20", "tema_20": "TEMA_20",
    "kama_10": "KAMA_10", "trix_15": "TRIX_15", "rsi_7": "RSI_7", "rsi_14": "RSI_14", "macd_12_26": "MACD",
    "macd_signal_12_26_9": "MACD_signal", "macd_hist_12_26_9": "MACD_hist", "bollinger_upper_20_2": "BB_upper",
    "bollinger_middle_20": "BB_mid", "bollinger_lower_20_2": "BB_lower", "std_20": "STDDEV_20", "atr_14": "ATR_14",
    "natr_14": "NATR_14", "adx_14": "ADX_14", "plus_di_14": "PLUS_DI_14", "minus_di_14": "MINUS_DI_14",
    "stoch_k_14_3": "STOCH_K", "stoch_d_14_3_3": "STOCH_D", "stoch_rsi_14_14": "STOCHRSI_K", "cci_20": "CCI_20",
    "williams_r_14": "WILLR_14", "mfi_14": "MFI_14", "ad": "AD", "adosc_3_10": "ADOSC_3_10", "roc_10": "ROC_10",
    "momentum_10": "MOM_10", "ultosc_7_14_28": "ULTOSC", "aroon_down_25": "AROON_down", "aroon_up_25": "AROON_up",
    "sar_0.02_0.2": "SAR",
}  # fmt: skip
SKENDER = {
    "sma_20": ("sma", "sma"), "ema_20": ("ema", "ema"), "wma_14": ("wma", "wma"), "rsi_14": ("rsi", "rsi"),
    "dema_14": ("dema", "dema"), "kama_10": ("kama", "kama"), "atr_14": ("atr", "atr"), "natr_14": ("atr", "atrp"),
    "cci_20": ("cci", "cci"), "williams_r_14": ("willr", "williamsR"), "mfi_14": ("mfi", "mfi"),
    "ultosc_7_14_28": ("uo", "ultimate"), "cmf_20": ("cmf", "cmf"), "bollinger_upper_20_2": ("bb", "upperBand"),
    "bollinger_lower_20_2": ("bb", "lowerBand"), "aroon_up_25": ("aroon", "aroonUp"), "ad": ("adl", "adl"),
    "macd_12_26": ("macd", "macd"), "macd_signal_12_26_9": ("macd", "signal"), "adx_14": ("adx", "adx"),
    "plus_di_14": ("adx", "pdi"), "stoch_k_14_3": ("stoch", "oscillator"), "stoch_d_14_3_3": ("stoch", "signal"),
    "roc_14": ("roc", "roc"), "supertrend_10_3": ("supertrend", "superTrend"), "tema_20": ("tema", "tema"),
    "stoch_rsi_14_14": ("stoch-rsi", "stochRsi"), "keltner_upper_20_10_2": ("keltner", "upperBand"),
}  # fmt: skip
DIFFERENT = {"keltner_upper_20_10_2"}  # Skender averages the close, TA-Lib and we the typical price
CONVERGED = 300


def features_of(columns: dict[str, np.ndarray], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    bars = len(columns["close"])
    columns = {k: np.ascontiguousarray(v, dtype=float).reshape(-1, 1) for k, v in columns.items()}
    panel = SamplePanel(np.arange(bars, dtype=np.int64) * 3_600_000, ("X",), "1h", columns)
    engine = engine_for(names, dtype=np.float64)
    out = np.empty((len(names), bars, 8))
    run_batch(engine, panel, out)
    return dict(zip(names, out[:, :, 0], strict=True))


def worst(values: np.ndarray, expected: np.ndarray, start: int) -> float:
    return float(np.nanmax(np.abs(values - expected)[start:]) / np.nanstd(expected))


SERIES = {
    "BTCUSDT_1h_varanus_first5000": "binance_um_1h/BTCUSDT_1h",
    "ETHUSDT_15m_nmtrong_first5000": "binance_um_recent/ETHUSDT_15m",
    "BTCUSDT_1h_ginghong_first5000": "binance_spot_12col/BTCUSDT_1h",
}


@pytest.mark.parametrize("name", SERIES)
def test_talib_columns_on_real_series(shared_data, name):
    expected = pl.read_parquet(shared_data / "indicators/talib" / f"{name}.parquet")
    klines = pl.read_parquet(shared_data / "klines" / f"{SERIES[name]}.parquet")
    bars = expected.select("open_time").join(klines, on="open_time", how="left", maintain_order="left")
    if bars["close"].null_count():
        pytest.fail(f"{SERIES[name]} does not hold all bars of {name}")
    columns = {c: bars[c].to_numpy() for c in ("open", "high", "low", "close", "volume")}
    mine = features_of(columns, tuple(TALIB))
    for ours, theirs in TALIB.items():
        start = CONVERGED if ours.startswith("macd") else 0
        assert worst(mine[ours], expected[theirs].to_numpy(), start) < 1e-9, ours


def test_skender_results(shared_data):
    quotes = pl.read_csv(shared_data / "indicators/skender/quotes/default.csv")
    columns = {c: quotes[c].to_numpy() for c in ("open", "high", "low", "close", "volume")}
    mine = features_of(columns, tuple(SKENDER))
    for ours, (file, field) in SKENDER.items():
        if ours in DIFFERENT:
            continue
        rows = json.loads((shared_data / f"indicators/skender/results/{file}.standard.json").read_text())
        expected = np.array([np.nan if row[field] is None else float(row[field]) for row in rows])
        assert worst(mine[ours], expected, CONVERGED) < 1e-6, ours
