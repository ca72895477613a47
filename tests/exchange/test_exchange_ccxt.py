"""The ccxt library, pointed at the exchange, pages through fetch_ohlcv and gets what is served."""

from __future__ import annotations

import ccxt
import pytest

NOW_MS = 1_741_867_230_500  # 2025-03-13T12:00:30.500Z


def ccxt_client(url: str) -> ccxt.binance:
    client = ccxt.binance(
        {
            "enableRateLimit": False,
            "options": {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False},
        }
    )
    client.has["fetchCurrencies"] = False
    for name, address in client.urls["api"].items():
        if isinstance(address, str) and "/api/v" in address:
            client.urls["api"][name] = url + address[address.index("/api/v") :]
        else:
            client.urls["api"][name] = url + "/not-served"
    return client


@pytest.mark.parametrize(
    ("symbol", "timeframe", "bars"), [("BTC/USDT", "1m", 2600), ("ETH/USDT", "1h", 1500)]
)
def test_ccxt_gets_every_bar_exactly(exchange, fetch, symbol, timeframe, bars):
    client = ccxt_client(exchange.url)
    client.load_markets()
    assert set(client.symbols) == {"BTC/USDT", "ETH/USDT", "SOL/USDT", "BNB/USDT"}
    assert client.fetch_time() == NOW_MS
    start = NOW_MS - bars * client.parse_timeframe(timeframe) * 1000
    got, since = [], start
    while True:
        page = client.fetch_ohlcv(symbol, timeframe, since, 1000)
        got += page
        if len(page) < 1000:
            break
        since = page[-1][0] + 1
    served, since = [], start
    while True:
        market = symbol.replace("/", "")
        path = f"/api/v3/klines?symbol={market}&interval={timeframe}&startTime={since}&limit=1000"
        page = fetch(path)[1]
        served += [[row[0], *map(float, row[1:6])] for row in page]
        if len(page) < 1000:
            break
        since = page[-1][0] + 1
    assert got == served
    assert bars * 0.98 < len(got) <= bars + 1


def test_ccxt_understands_markets_tickers_and_errors(exchange):
    client = ccxt_client(exchange.url)
    market = client.load_markets()["BTC/USDT"]
    assert market["active"]
    assert market["spot"]
    assert market["precision"]["price"] == 0.01
    ticker = client.fetch_ticker("BTC/USDT")
    assert ticker["low"] <= ticker["last"] <= ticker["high"]
    assert set(client.fetch_tickers(["BTC/USDT", "ETH/USDT"])) == {"BTC/USDT", "ETH/USDT"}
    with pytest.raises(ccxt.BadSymbol):
        client.publicGetKlines({"symbol": "NOSUCH", "interval": "1m"})
    exchange.add_fault(path="/api/v3/klines", status=429)
    with pytest.raises(ccxt.DDoSProtection):
        client.fetch_ohlcv("BTC/USDT", "1m")
