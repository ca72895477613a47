"""Against TA-Lib: to 1e-9 of the feature's standard deviation, on made-up and on recorded bars."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import talib

from kernels.catalogue import default_features
from kernels.compute import run_batch
from kernels.engine import engine_for
from kernels.sample import SamplePanel, sample_panel

TOLERANCE = 1e-9


def talib_outputs(o, h, l, c, v) -> dict[str, np.ndarray]:  # noqa: E741
    upper, middle, lower = talib.BBANDS(c, 20, 2, 2)
    macd, signal, histogram = talib.MACD(c, 12, 26, 9)
    slow_k, slow_d = talib.STOCH(h, l, c, 14, 3, 0, 3, 0)
    aroon_down, aroon_up = talib.AROON(h, l, 14)
    channel_top, _, channel_bottom = talib.DONCHIAN(h, l, 20)
    keltner_top, _, keltner_bottom = talib.KC(h, l, c, 20, 10, 2.0)
    return {
        "sma_20": talib.SMA(c, 20), "ema_20": talib.EMA(c, 20), "wma_20": talib.WMA(c, 20),
        "dema_20": talib.DEMA(c, 20), "tema_20": talib.TEMA(c, 20), "kama_10": talib.KAMA(c, 10),
        "rsi_14": talib.RSI(c, 14), "rsi_7": talib.RSI(c, 7),
        "macd_12_26": macd, "macd_signal_12_26_9": signal, "macd_hist_12_26_9": histogram,
        "ppo_12_26": talib.PPO(c, 12, 26, 1),
        "bollinger_upper_20_2": upper, "bollinger_middle_20": middle, "bollinger_lower_20_2": lower,
        "bollinger_position_20_2": (c - middle) / (upper - middle), "bollinger_width_20_2": (upper - lower) / middle,
        "std_20": talib.STDDEV(c, 20), "atr_14": talib.ATR(h, l, c, 14), "natr_14": talib.NATR(h, l, c, 14),
        "adx_14": talib.ADX(h, l, c, 14), "plus_di_14": talib.PLUS_DI(h, l, c, 14),
        "minus_di_14": talib.MINUS_DI(h, l, c, 14), "stoch_k_14_3": slow_k, "stoch_d_14_3_3": slow_d,
        "stoch_rsi_14_14": talib.STOCHRSI(c, 14, 14, 3, 0)[0], "williams_r_14": talib.WILLR(h, l, c, 14),
        "cci_20": talib.CCI(h, l, c, 20), "aroon_down_14": aroon_down, "aroon_up_14": aroon_up,
        "aroon_osc_14": talib.AROONOSC(h, l, 14), "obv": talib.OBV(c, v) - v[0], "ad": talib.AD(h, l, c, v),
        "adosc_3_10": talib.ADOSC(h, l, c, v, 3, 10), "mfi_14": talib.MFI(h, l, c, v, 14),
        "cmf_20": talib.CMF(h, l, c, v, 20), "roc_10": talib.ROC(c, 10), "momentum_10": talib.MOM(c, 10),
        "trix_15": talib.TRIX(c, 15), "ultosc_7_14_28": talib.ULTOSC(h, l, c, 7, 14, 28),
        "sar_0.02_0.2": talib.SAR(h, l, 0.02, 0.2), "supertrend_10_3": talib.SUPERTREND(h, l, c, 10, 3.0)[0],
        "donchian_upper_20": channel_top, "donchian_lower_20": channel_bottom,
        "keltner_upper_20_10_2": keltner_top, "keltner_lower_20_10_2": keltner_bottom,
    }  # fmt: skip


CONVERGING = {
    "macd_12_26": 190, "macd_signal_12_26_9": 230, "macd_hist_12_26_9": 230,
    "keltner_upper_20_10_2": 250, "keltner_lower_20_10_2": 250,
}  # fmt: skip
"""TA-Lib starts MACD's fast average, and the ATR in KC, later: equal once the start is forgotten."""


def ours(panel: SamplePanel) -> dict[str, np.ndarray]:
    names = default_features()
    out = np.empty((len(names), len(panel.open_time), max(len(panel.symbols), 8)))
    run_batch(engine_for(names, dtype=np.float64), panel, out)
    return dict(zip(names, out, strict=True))


def compare(panel: SamplePanel, symbol: int) -> None:
    mine = ours(panel)
    columns = (
        np.ascontiguousarray(panel.columns[n][:, symbol]) for n in ("open", "high", "low", "close", "volume")
    )
    for name, expected in talib_outputs(*columns).items():
        values = mine[name][:, symbol]
        start = max(
            int(np.argmax(~np.isnan(expected))), int(np.argmax(~np.isnan(values))), CONVERGING.get(name, 0)
        )
        difference = np.abs(values[start:] - expected[start:])
        worst = np.nanmax(difference) / np.nanstd(expected)
        assert worst <= TOLERANCE, f"{name}: {worst:.1e} of its standard deviation"
        assert not np.isnan(values[start:]).any(), name


@pytest.mark.parametrize("symbol", [0, 3, 8])
def test_made_up_bars(symbol):
    compare(sample_panel(2_500, 9, seed=11), symbol)


def recorded(folder, name: str, rows: int) -> SamplePanel:
    frame = pl.read_parquet(folder / "klines" / name).head(rows)
    columns = {
        column: np.ascontiguousarray(frame[column].cast(pl.Float64).to_numpy().reshape(-1, 1))
        for column in ("open", "high", "low", "close", "volume")
    }
    nothing = {c: np.full((frame.height, 1), np.nan) for c in ("trades", "taker_buy_base")}
    return SamplePanel(
        np.arange(frame.height, dtype=np.int64) * 900_000, ("X",), "15m", {**columns, **nothing}
    )


@pytest.mark.parametrize(
    "name", ["binance_um_recent/BTCUSDT_15m.parquet", "binance_um_1h/DOGEUSDT_1h.parquet"]
)
def test_recorded_bars(shared_data, name):
    panel = recorded(shared_data, name, 6_000)
    compare(panel, 0)
