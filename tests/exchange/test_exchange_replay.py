"""A folder of recorded bars comes back bit for bit, up to the clock."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest

from market.exchange.launch import start_exchange
from market.exchange.recording import decimal_texts
from market.exchange.replay import ReplayMarket
from market.exchange.source import ExchangeSetupError, KlineQuery

HOUR_MS = 3_600_000
FULL = ("open", "high", "low", "close", "volume", "close_time", "quote_volume", "trades", "taker_buy_base")
FULL = (*FULL, "taker_buy_quote")


def served(market: ReplayMarket, symbol: str, interval: str, now: int) -> list[list]:
    rows, start = [], 0
    while True:
        page = orjson.loads(market.klines(KlineQuery(symbol, interval, start, None, 1000), now).body)
        rows += page
        if len(page) < 1000:
            return rows
        start = page[-1][0] + 1


def column(rows: list[list], field: int, kind: type) -> np.ndarray:
    return np.array([kind(row[field]) for row in rows])


def assert_same_bits(rows: list[list], frame: pl.DataFrame, names: tuple[str, ...]) -> None:
    np.testing.assert_array_equal(column(rows, 0, int), frame["open_time"].to_numpy())
    for field, name in enumerate(names, start=1):
        if name in ("close_time", "trades"):
            np.testing.assert_array_equal(column(rows, field, int), frame[name].to_numpy())
        else:
            ours = column(rows, field, float).view(np.int64)
            np.testing.assert_array_equal(ours, frame[name].to_numpy().view(np.int64), err_msg=name)


@pytest.mark.parametrize("name", ["binance_um_recent/XRPUSDT_15m", "small_with_gaps/ADA_BTC_5m"])
def test_ohlcv_files_round_trip_and_the_rest_is_zero(shared_data, name):
    path = shared_data / "klines" / f"{name}.parquet"
    market = ReplayMarket(path.parent)
    symbol, interval = path.stem.rsplit("_", 1)
    rows = served(market, symbol.replace("_", ""), interval, market.end_ms)
    assert_same_bits(rows, pl.read_parquet(path), FULL[:5])
    length = {"15m": 900_000, "5m": 300_000}[interval]
    assert all(row[6] == row[0] + length - 1 for row in rows)
    assert {(row[7], row[8], row[9], row[10], row[11]) for row in rows} == {("0.0", 0, "0.0", "0.0", "0")}


@pytest.mark.parametrize(
    "name", ["binance_spot_12col/BTCUSDT_1h", "pump_events_2020/QSPBTC_1m_2020-09-10T1800Z"]
)
def test_files_with_all_columns_round_trip(shared_data, name):
    path = shared_data / "klines" / f"{name}.parquet"
    market = ReplayMarket(path.parent)
    symbol, interval = path.stem.split("_")[:2]
    rows = served(market, symbol, interval, market.end_ms)
    assert_same_bits(rows, pl.read_parquet(path), FULL)
    assert not any("e" in row[1] for row in rows)


def test_a_dirty_file_is_served_as_recorded(shared_data):
    path = shared_data / "klines" / "binance_spot_dirty" / "BTCUSDT_1h.parquet"
    market = ReplayMarket(path.parent)
    frame = pl.read_parquet(path).sort("open_time", maintain_order=True)
    # One page per 1000 rows, cut by row and not by time, so that duplicates at a border are not skipped.
    rows = []
    while len(rows) < frame.height:
        start = int(frame["open_time"][len(rows)])
        skip = len(rows) - int(frame["open_time"].search_sorted(start))
        page = orjson.loads(market.klines(KlineQuery("BTCUSDT", "1h", start, None, 1000), market.end_ms).body)
        rows += page[skip:]
    assert_same_bits(rows, frame, FULL)
    times = column(rows, 0, int)
    assert (np.diff(times) == 0).sum() == 5  # duplicates
    assert (times % HOUR_MS != 0).sum() >= 43  # misaligned


def test_gaps_stay_gaps(shared_data):
    market = ReplayMarket(shared_data / "klines" / "binance_spot_outages")
    rows = served(market, "LUNAUSDT", "1h", market.end_ms)
    times = column(rows, 0, int)
    assert (np.diff(times) > HOUR_MS).any()
    assert len(rows) == market.recordings[("LUNAUSDT", "1h")].rows


def test_the_clock_hides_the_future_and_the_running_bar_is_partial(shared_data):
    folder = shared_data / "klines" / "binance_spot_12col"
    market = ReplayMarket(folder)
    frame = pl.read_parquet(folder / "ETHUSDT_1h.parquet")
    bar = frame.row(1000, named=True)
    now = bar["open_time"] + HOUR_MS // 4
    query = KlineQuery("ETHUSDT", "1h", None, None, 3)
    page = market.klines(query, now)
    rows = orjson.loads(page.body)
    assert not page.settled
    assert [row[0] for row in rows] == frame["open_time"][998:1001].to_list()
    last = rows[-1]
    assert float(last[1]) == bar["open"]
    assert bar["low"] <= float(last[3]) <= float(last[2]) <= bar["high"]
    assert float(last[5]) == pytest.approx(bar["volume"] / 4)
    assert last[8] == bar["trades"] // 4
    whole = orjson.loads(market.klines(query, bar["open_time"] + HOUR_MS).body)
    closed = next(row for row in whole if row[0] == bar["open_time"])
    assert float(closed[4]) == bar["close"]
    assert float(closed[5]) == bar["volume"]


def test_a_served_replay_lives_in_its_own_time(shared_data):
    folder = shared_data / "klines" / "binance_um_recent"
    with start_exchange(replay=folder, now="2025-09-01T00:07", speed=0) as running:
        info = running.info()
        assert info["kind"] == "replay"
        assert len(info["symbols"]) == 12
        assert all(recording["ohlcv_only"] for recording in info["recordings"])
        now = running.call("GET", "/api/v3/time")["serverTime"]
        rows = running.call("GET", "/api/v3/klines?symbol=BTCUSDT&interval=15m&limit=2")
        assert rows[0][6] < now <= rows[1][6]
        assert running.call("GET", "/api/v3/klines?symbol=AVAXUSDT&interval=30m") == []
        with pytest.raises(ExchangeSetupError, match="-1120"):
            running.call("GET", "/api/v3/klines?symbol=BTCUSDT&interval=1h")
        ticker = running.call("GET", "/api/v3/ticker/24hr?symbol=BTCUSDT")
        assert float(ticker["lowPrice"]) <= float(ticker["lastPrice"]) <= float(ticker["highPrice"])
        symbol = running.call("GET", "/api/v3/exchangeInfo?symbol=BTCUSDT")["symbols"][0]
        assert (symbol["baseAsset"], symbol["quoteAsset"]) == ("BTC", "USDT")


def test_time_stops_where_the_recording_ends(shared_data):
    folder = shared_data / "klines" / "binance_spot_12col"
    end = ReplayMarket(folder).end_ms
    with start_exchange(replay=folder, now=end - HOUR_MS, speed=1e6) as running:
        time.sleep(0.01)  # ten thousand seconds there
        info = running.info()
        assert (info["now_ms"], info["speed"]) == (end, 0), "nobody asks for bars that nobody has recorded"
        assert running.set_clock(now_ms=end + HOUR_MS) == end + HOUR_MS, (
            "set to a later time, it stands there"
        )
        assert running.call("GET", "/api/v3/time")["serverTime"] == end + HOUR_MS
    with start_exchange(replay=folder) as running:
        assert (running.info()["now_ms"], running.info()["speed"]) == (end, 0)


def test_a_symbol_is_traded_as_long_as_its_recordings_go_on(tmp_path):
    day = 24 * HOUR_MS
    for name, bars in {"AAAUSDT_1h": 100, "BBBUSDT_1h": 40, "BBBUSDT_4h": 20, "CCCUSDT_1h": 99}.items():
        length = HOUR_MS if name.endswith("1h") else 4 * HOUR_MS
        columns = {field: [1.0] * bars for field in FULL[:5]}
        write_bars(tmp_path / f"{name}.parquet", open_time=[at * length for at in range(bars)], **columns)
    market = ReplayMarket(tmp_path)

    def states(hours: int) -> dict[str, str]:
        return {each.symbol: each.status for each in market.instruments(hours * HOUR_MS)}

    assert market.end_ms == 100 * HOUR_MS
    assert states(40) == {"AAAUSDT": "TRADING", "BBBUSDT": "TRADING", "CCCUSDT": "TRADING"}
    assert states(41)["BBBUSDT"] == "HALT", "its hours have ended, its four hours go on"
    assert states(100) == {"AAAUSDT": "TRADING", "BBBUSDT": "HALT", "CCCUSDT": "HALT"}
    assert states(104) == {"AAAUSDT": "HALT", "BBBUSDT": "BREAK", "CCCUSDT": "HALT"}
    assert set(states(100 + day // HOUR_MS).values()) == {"BREAK"}


def test_floats_are_written_shortest_and_without_exponent():
    values = np.array([1e-8, 1.5e-7, 0.1, 1 / 3, 123456789.125, 1e17, 5e-324, 0.0])
    texts = decimal_texts(values)
    assert [float(text) for text in texts] == values.tolist()
    assert not any("e" in text for text in texts)
    assert texts[0] == "0.00000001"


def write_bars(path: Path, **columns: list) -> None:
    base = {"open_time": [0, 60_000], **{name: [1.0, 1.0] for name in FULL[:5]}}
    pl.DataFrame({**base, **columns}).write_parquet(path)


def test_what_cannot_be_replayed_is_refused(tmp_path):
    with pytest.raises(ExchangeSetupError, match="no folder"):
        ReplayMarket(tmp_path / "absent")
    with pytest.raises(ExchangeSetupError, match=r"no \.parquet file"):
        ReplayMarket(tmp_path)
    bad = tmp_path / "bars.parquet"
    write_bars(bad)
    with pytest.raises(ExchangeSetupError, match="its name is not"):
        ReplayMarket(tmp_path)
    bad.rename(tmp_path / "AAAUSDT_1m.parquet")
    ReplayMarket(tmp_path)
    (tmp_path / "more").mkdir()
    write_bars(tmp_path / "more" / "AAA_USDT_1m.parquet")
    with pytest.raises(ExchangeSetupError, match="recorded twice"):
        ReplayMarket(tmp_path)
    (tmp_path / "more" / "AAA_USDT_1m.parquet").unlink()
    pl.DataFrame({"open_time": [1]}).write_parquet(tmp_path / "more" / "BBB_USDT_1m.parquet")
    with pytest.raises(ExchangeSetupError, match="no column open"):
        ReplayMarket(tmp_path)
    (tmp_path / "more" / "BBB_USDT_1m.parquet").write_bytes(b"not parquet")
    with pytest.raises(ExchangeSetupError, match="cannot be read"):
        ReplayMarket(tmp_path)
