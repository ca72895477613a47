"""Proof, for any feature, that it means the same everywhere: what a feature of one's own gets for free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kernels.catalogue import FeatureSpec, spec
from kernels.compute import compute, run_batch
from kernels.engine import Engine, engine_for
from kernels.generate import build
from kernels.logarithm import reference_log
from kernels.panel import clock_values
from kernels.reference import run_reference
from kernels.sample import SamplePanel, sample_panel
from kernels.streaming import Stream

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class ParityReport:
    """What was checked, and where it failed.

    Attributes
    ----------
    features
        The features.
    checks
        Names of all checks made.
    failures
        One line per failed check and feature.
    """

    features: tuple[str, ...]
    checks: tuple[str, ...]
    failures: tuple[str, ...]


def check_features(
    features: Sequence[str], *, bars: int = 360, symbols: int = 13, seed: int = 1
) -> ParityReport:
    """Compare all ways of computing the features, to the last bit, on a panel full of gaps.

    Parameters
    ----------
    features
        Names.
    bars, symbols, seed
        Of the made-up panel; it has more bars where the features need them.

    Returns
    -------
    ParityReport
        Batch against the NumPy oracle, any chunks, bar by bar, save and restore, one symbol alone, permuted symbols,
        a changed future; the declared warm-up, range and freedom of scale; and that values are finite.
    """
    names = tuple(features)
    bars = max([bars, *(spec(name).warmup + 120 for name in names)])
    panel = sample_panel(bars, symbols, seed=seed, gaps=True, scales=True)
    batch = compute(panel, names).values
    failures: list[str] = []
    checks: dict[str, Callable[[], NDArray[np.float32]]] = {
        "NumPy oracle": lambda: oracle(names, panel).astype(np.float32),
        "random chunks": lambda: in_chunks(names, panel, seed),
        "bar by bar, saved and restored half-way": lambda: bar_by_bar(names, panel),
        "permuted symbols": lambda: _permuted(names, panel, seed),
        "each symbol alone": lambda: _alone(names, panel),
    }
    for what, run in checks.items():
        failures += _differing(what, names, batch, run())
    cut = bars * 2 // 3
    failures += _differing("changed future", names, batch[:, :cut], _other_future(names, panel, cut)[:, :cut])
    failures += _declared(names, bars)
    more = ("changed future", "warm-up", "finite", "range", "scale")
    return ParityReport(names, (*checks, *more), tuple(failures))


def oracle(features: Sequence[str], panel: SamplePanel) -> NDArray[np.float64]:
    """Features from the NumPy interpretation of the generated step, float64."""
    return _interpret(features, panel, reference_log)


def _interpret(
    features: Sequence[str], panel: SamplePanel, log: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    program = build(tuple(features))
    columns = [panel.columns[name] for name in program.columns]
    state = np.zeros((program.rows, len(panel.symbols)))
    return run_reference(program, columns, clock_values(panel.open_time, program.clock), state, 0, log)


def in_chunks(
    features: Sequence[str], panel: SamplePanel, seed: int, engine: Engine | None = None
) -> NDArray[np.float32]:
    """Features computed in chunks of random length, the state carried over."""
    rng = np.random.default_rng(seed)
    engine = engine or engine_for(tuple(features))
    bars, symbols = len(panel.open_time), len(panel.symbols)
    state, parts, t = engine.new_state(symbols), [], 0
    while t < bars:
        n = min(int(rng.integers(1, 90)), bars - t)
        columns = [panel.columns[name][t : t + n] for name in engine.program.columns]
        out = np.empty((len(engine.program.features), n, symbols), dtype=engine.dtype)
        engine.run(columns, clock_values(panel.open_time[t : t + n], engine.program.clock), state, t, out)
        parts.append(out)
        t += n
    return np.concatenate(parts, axis=1)


def bar_by_bar(features: Sequence[str], panel: SamplePanel) -> NDArray[np.float32]:
    """Features from a stream that is saved and restored half-way."""
    interval = int(panel.open_time[1] - panel.open_time[0])
    stream = Stream(features, panel.symbols, interval)
    parts = []
    for t, open_time in enumerate(panel.open_time.tolist()):
        if t == len(panel.open_time) // 2:
            stream = Stream.restore(features, panel.symbols, interval, stream.state())
        parts.append(stream.update(open_time, {name: values[t] for name, values in panel.columns.items()}))
    return np.stack(parts, axis=1)


def _permuted(names: tuple[str, ...], panel: SamplePanel, seed: int) -> NDArray[np.float32]:
    order = np.random.default_rng(seed).permutation(len(panel.symbols))
    shuffled = replace(
        panel, columns={k: np.ascontiguousarray(v[:, order]) for k, v in panel.columns.items()}
    )
    result = np.empty((len(names), *panel.columns["close"].shape), dtype=np.float32)
    result[:, :, order] = compute(shuffled, names).values
    return result


def _alone(names: tuple[str, ...], panel: SamplePanel) -> NDArray[np.float32]:
    single = [
        replace(
            panel,
            symbols=(symbol,),
            columns={k: np.ascontiguousarray(v[:, s : s + 1]) for k, v in panel.columns.items()},
        )
        for s, symbol in enumerate(panel.symbols)
    ]
    return np.concatenate([compute(p, names).values for p in single], axis=2)


def _other_future(names: tuple[str, ...], panel: SamplePanel, cut: int) -> NDArray[np.float32]:
    """Features of a panel that is another one from row `cut` on."""
    other = sample_panel(len(panel.open_time), len(panel.symbols), seed=99)
    columns = {k: np.concatenate([v[:cut], other.columns[k][cut:]]) for k, v in panel.columns.items()}
    return compute(replace(panel, columns=columns), names).values


def _declared(names: tuple[str, ...], bars: int) -> list[str]:
    """Hold what the catalogue says against a panel without gaps and against one with other units."""
    plain = sample_panel(bars, 8, seed=3)
    values = _interpret(names, plain, _strict_log)
    units = {"volume": 1 / 3, "taker_buy_base": 1 / 3}
    price = {"open": 7.0, "high": 7.0, "low": 7.0, "close": 7.0}
    scaled = {k: v * price.get(k, units.get(k, 1.0)) for k, v in plain.columns.items()}
    rescaled = _float64(names, replace(plain, columns=scaled))
    failures = []
    for name, value, other in zip(names, values, rescaled, strict=True):
        described = spec(name)
        if not np.isnan(value[: described.warmup]).all():
            failures.append(f"warm-up: {name} has a value before bar {described.warmup}")
        if not np.isfinite(value[described.warmup :]).all():
            failures.append(_not_finite(name, value, described, plain))
            continue
        least, greatest = described.value_range
        slack = _TOLERANCE * max(abs(least or 0.0), abs(greatest or 0.0), 1.0)
        if (least is not None and np.nanmin(value) < least - slack) or (
            greatest is not None and np.nanmax(value) > greatest + slack
        ):
            failures.append(f"range: {name} goes from {np.nanmin(value)} to {np.nanmax(value)}")
        spread = max(float(np.nanstd(value)), 1e-300)
        if described.scale_free and np.nanmax(np.abs(value - other)) > _TOLERANCE * spread:
            failures.append(f"scale: {name} changes with the unit of price or volume")
    return failures


def _strict_log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm that is NaN where there is none."""
    return np.where((x > 0) & (x < np.inf), reference_log(x), np.nan)


def _not_finite(name: str, value: NDArray[np.float64], described: FeatureSpec, panel: SamplePanel) -> str:
    """Tell the first value that is no finite number, and of which bar."""
    t, s = np.argwhere(~np.isfinite(value[described.warmup :]))[0] + (described.warmup, 0)
    bar = ", ".join(
        f"{key} {panel.columns[key][t, s]:.6g}" for key in described.inputs if key in panel.columns
    )
    return (
        f"finite: {name} is {value[t, s]} where all its inputs are there, as at {bar}: "
        "divide with ratio(a, b), take logarithms of what is positive"
    )


def _float64(names: tuple[str, ...], panel: SamplePanel) -> NDArray[np.float64]:
    engine = engine_for(names, dtype=np.float64)
    out = np.empty((len(names), *panel.columns["close"].shape))
    run_batch(engine, panel, out)
    return out


def _differing(
    what: str, names: tuple[str, ...], a: NDArray[np.float32], b: NDArray[np.float32]
) -> list[str]:
    """Features whose bits differ (NaN equals NaN)."""
    lines = []
    for name, left, right in zip(names, a, b, strict=True):
        same = (left.view(np.int32) == right.view(np.int32)) | (np.isnan(left) & np.isnan(right))
        if not same.all():
            t, s = np.argwhere(~same)[0]
            lines.append(f"{what}: {name} at bar {t}, symbol {s}: {left[t, s]!r} and {right[t, s]!r}")
    return lines
