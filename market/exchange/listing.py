"""The simulated market's symbols: names, price and lot grids, liquidity, volatility, listing dates."""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from market.intervals import DAY_MS

GENESIS_MS: Final = 1_704_067_200_000  # 2024-01-01T00:00:00Z
MAX_SYMBOLS: Final = 4_900  # as many as there are generated names

# base asset, price at listing in USDT, daily traded value in USDT, one-minute volatility
_KNOWN: Final = (
    ("BTC", 42_000.0, 1.2e9, 4.5e-4),
    ("ETH", 2_300.0, 7e8, 5.5e-4),
    ("SOL", 100.0, 4e8, 8e-4),
    ("BNB", 310.0, 2e8, 5e-4),
    ("XRP", 0.62, 2.5e8, 7e-4),
    ("DOGE", 0.09, 1.5e8, 8e-4),
    ("ADA", 0.6, 1e8, 7.5e-4),
    ("AVAX", 39.0, 9e7, 8.5e-4),
    ("LINK", 15.0, 8e7, 7.5e-4),
    ("DOT", 8.2, 6e7, 7.5e-4),
    ("TRX", 0.107, 5e7, 4.5e-4),
    ("LTC", 73.0, 6e7, 6e-4),
    ("UNI", 7.3, 4e7, 8e-4),
    ("ATOM", 10.6, 3.5e7, 8e-4),
    ("NEAR", 3.7, 4.5e7, 9e-4),
    ("APT", 9.4, 4e7, 9e-4),
    ("ARB", 1.6, 4.5e7, 9e-4),
    ("OP", 3.7, 4e7, 9e-4),
    ("FIL", 6.9, 3e7, 8.5e-4),
    ("ETC", 22.0, 3e7, 7e-4),
    ("BCH", 260.0, 4e7, 7e-4),
    ("XLM", 0.13, 2.5e7, 7e-4),
    ("ALGO", 0.22, 2e7, 8e-4),
    ("AAVE", 109.0, 2e7, 8.5e-4),
    ("SUI", 0.78, 5e7, 1e-3),
    ("INJ", 38.0, 3e7, 1e-3),
    ("TIA", 12.0, 3e7, 1.05e-3),
    ("SEI", 0.5, 3e7, 1.05e-3),
    ("GRT", 0.18, 1.5e7, 9e-4),
    ("SAND", 0.58, 1.5e7, 8.5e-4),
    ("MANA", 0.52, 1.2e7, 8.5e-4),
    ("FET", 0.68, 2e7, 1.05e-3),
    ("ICP", 13.0, 2e7, 9e-4),
    ("STX", 1.5, 1.5e7, 1e-3),
    ("HBAR", 0.085, 2e7, 8e-4),
    ("CRV", 0.61, 1.5e7, 9.5e-4),
)
_CONSONANTS: Final = "BDFGKLMNPRSTVZ"
_VOWELS: Final = "AEIOU"


@dataclass(frozen=True)
class SymbolSpec:
    """What is fixed about one simulated symbol.

    ``tick_decimals`` and ``step_decimals`` are the decimals of prices and of quantities; their sum is at
    most 8, so that price times quantity is exact in the 8 decimals of the wire. ``sigma`` is the one-minute
    volatility in a normal regime, ``market_share`` the correlation of its return noise with the common
    factor.
    """

    symbol: str
    base: str
    quote: str
    tick_decimals: int
    step_decimals: int
    first_price: float
    minute_value: float
    trade_value: float
    sigma: float
    market_share: float
    listed_time: int
    thin: bool


def _grid(price: float) -> tuple[int, int]:
    tick_decimals = min(8, max(0, 5 - math.floor(math.log10(price)) + 1))
    step_decimals = min(8 - tick_decimals, max(0, 1 + math.floor(math.log10(price))))
    return tick_decimals, step_decimals


def _generated_base(position: int) -> str:
    """Return a pronounceable five-letter asset name; neighbours differ, and none is a known asset's."""
    syllables = len(_CONSONANTS) * len(_VOWELS)
    # A stride that shares no factor with syllables ** 2 visits every name once, without runs of look-alikes.
    code = (position * 1_861 + 977) % (syllables * syllables)
    letters = ""
    for syllable in divmod(code, syllables):
        consonant, vowel = divmod(syllable, len(_VOWELS))
        letters += _CONSONANTS[consonant] + _VOWELS[vowel]
    return letters + _CONSONANTS[position % len(_CONSONANTS)]


def _listed_time(position: int, random: np.random.Generator) -> int:
    """Most symbols exist from the genesis; some of the later ones are listed within the first year."""
    days = int(random.integers(20, 360))
    minutes = int(random.integers(0, 24 * 12)) * 5
    if position < 6 or random.random() > 0.25:
        return GENESIS_MS
    return GENESIS_MS + days * DAY_MS + minutes * 60_000


@functools.lru_cache(maxsize=8)
def list_symbols(count: int, seed: int) -> tuple[SymbolSpec, ...]:
    """Describe the first ``count`` symbols of the market; a longer list begins with the shorter one."""
    return tuple(_describe(position, seed) for position in range(count))


def _describe(position: int, seed: int) -> SymbolSpec:
    digest = hashlib.blake2b(f"{seed}/{position}".encode(), digest_size=8).digest()
    random = np.random.default_rng(int.from_bytes(digest, "little"))
    drawn_price = float(10.0 ** random.uniform(-1.2, 2.2))
    drawn_value = float(10.0 ** random.uniform(6.3, 7.3))
    drawn_sigma = float(random.uniform(7e-4, 1.1e-3))
    share = 0.85 if position == 0 else float(random.uniform(0.45, 0.75))
    if position < len(_KNOWN):
        base, price, value, sigma = _KNOWN[position]
    else:
        base, price, value, sigma = _generated_base(position), drawn_price, drawn_value, drawn_sigma
    tick_decimals, step_decimals = _grid(price)
    return SymbolSpec(
        symbol=f"{base}USDT",
        base=base,
        quote="USDT",
        tick_decimals=tick_decimals,
        step_decimals=step_decimals,
        first_price=price,
        minute_value=value / 1440,
        trade_value=float(random.uniform(200, 900)),
        sigma=sigma,
        market_share=share,
        listed_time=_listed_time(position, random),
        thin=position % 10 == 9,
    )
