"""The control routes under /klinecast/v1: clock, faults, limits, counters and the planted truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from market.errors import MarketError
from market.exchange.exchange import Exchange, describe
from market.exchange.limits import LimitPolicy, WeightLimiter
from market.exchange.protocol import ApiError, kline_query
from market.exchange.simulate import SimulatedMarket
from market.exchange.source import ExchangeSetupError
from market.exchange.truth import planted_anomalies, planted_outages, truth_of_bars

Control = Callable[[Request], Awaitable[Any]]


def control_routes(exchange: Exchange) -> list[Route]:
    """Return the control routes of an exchange."""
    controls = _Controls(exchange)
    return [
        _route("/klinecast/v1/info", "GET", controls.info),
        _route("/klinecast/v1/counters", "DELETE", controls.reset_counters),
        _route("/klinecast/v1/clock", "POST", controls.clock),
        _route("/klinecast/v1/faults", "POST", controls.add_faults),
        _route("/klinecast/v1/faults", "GET", controls.list_faults),
        _route("/klinecast/v1/faults", "DELETE", controls.clear_faults),
        _route("/klinecast/v1/limits", "POST", controls.limits),
        _route("/klinecast/v1/truth", "GET", controls.truth),
    ]


def _route(path: str, method: str, control: Control) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return _json(await control(request))
        except MarketError as error:
            return _json({"error": error.what, "where": error.where, "do": error.remedy}, 400)
        except ApiError as error:
            return _json({"error": error.message, "where": path, "do": "see docs/exchange.md"}, 400)

    return Route(path, endpoint, methods=[method])


class _Controls:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def info(self, request: Request) -> Any:
        return describe(self._exchange, metadata.version("klinecast"))

    async def reset_counters(self, request: Request) -> Any:
        self._exchange.counters.clear()
        return {}

    async def clock(self, request: Request) -> Any:
        wish = await _object(request, {"now_ms": (int,), "speed": (int, float)})
        now = self._exchange.clock.set(wish.get("now_ms"), wish.get("speed"))
        return {"now_ms": now, "speed": self._exchange.clock.speed}

    async def add_faults(self, request: Request) -> Any:
        wishes = await _body(request)
        faults = [
            self._exchange.faults.add(wish) for wish in (wishes if isinstance(wishes, list) else [wishes])
        ]
        return {"added": len(faults), "faults": self._exchange.faults.faults}

    async def list_faults(self, request: Request) -> Any:
        return {"faults": self._exchange.faults.faults}

    async def clear_faults(self, request: Request) -> Any:
        self._exchange.faults.clear()
        return {"faults": []}

    async def limits(self, request: Request) -> Any:
        kinds: dict[str, tuple[type, ...]] = {
            "weight_per_minute": (int,),
            "raw_per_5m": (int,),
            "strikes": (int,),
            "ban_s": (int, float),
        }
        wish = await _object(request, kinds)
        policy: LimitPolicy = dataclasses.replace(self._exchange.limiter.policy, **wish)
        self._exchange.limiter = WeightLimiter(policy)
        # The futures' own default stays until a weight is given; requests are not counted there.
        weight = wish.get("weight_per_minute", self._exchange.futures_limiter.policy.weight_per_minute)
        self._exchange.futures_limiter = WeightLimiter(
            dataclasses.replace(policy, weight_per_minute=weight, raw_per_5m=0)
        )
        return policy

    async def truth(self, request: Request) -> Any:
        exchange = self._exchange
        if not isinstance(exchange.market, SimulatedMarket):
            raise ExchangeSetupError(
                "a recorded market has no known truth",
                where="/klinecast/v1/truth",
                remedy="serve a simulated one",
            )
        given = dict(request.query_params)
        horizon = given.pop("horizon", "1")
        if not horizon.isdecimal() or not 1 <= int(horizon) <= 1000:
            raise ExchangeSetupError(
                f"horizon {horizon!r} is not possible",
                where="/klinecast/v1/truth",
                remedy="give 1 to 1000 bars",
            )
        now = exchange.clock.now()
        query = kline_query(given, exchange.market, now, False)
        bars = truth_of_bars(exchange.market, query, int(horizon), now)
        return {
            "symbol": query.symbol,
            "interval": query.interval,
            "horizon": int(horizon),
            "open_time": bars.open_time,
            "p_up": bars.p_up,
            "mean": bars.mean,
            "std": bars.std,
            "anomalies": planted_anomalies(exchange.market, query.symbol, *bars.span, now),
            "outages": planted_outages(exchange.market, *bars.span, now),
        }


async def _body(request: Request) -> Any:
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise ExchangeSetupError(
            f"the body is not JSON: {error}", where=request.url.path, remedy="send a JSON object"
        ) from None


async def _object(request: Request, kinds: dict[str, tuple[type, ...]]) -> dict[str, Any]:
    wish = await _body(request)
    if not isinstance(wish, dict):
        raise ExchangeSetupError("the body is not a JSON object", where=request.url.path, remedy="send one")
    for name, value in wish.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if not (number and name in kinds and isinstance(value, kinds[name])):
            remedy = f"fields: {', '.join(kinds)}; numbers from 0 up"
            raise ExchangeSetupError(
                f"{name!r}: {value!r} is not accepted", where=request.url.path, remedy=remedy
            )
    return wish


def _json(value: Any, status: int = 200) -> Response:
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, media_type="application/json")
