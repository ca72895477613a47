"""How fast the feature kernels are, against TA-Lib, pandas and talipp.

    python -m benchmarks.kernels [--json] [--core N] [--rounds N] [--quick] [--write PAGE]

All figures come from one run on one pinned core (the two-thread figure excepted); what is compared takes turns, and
medians over the rounds are given, in wall time.

- `talib_discarded_ratio`, `talib_kept_ratio`: 20 indicators (26 outputs) over 100 symbols x 10,000 bars, TA-Lib's
  time over ours, when its outputs are dropped at once, and when they are kept. Ours go as float32 to a block that is
  there already; `talib_kept_new_block_ratio`: TA-Lib keeping its outputs, ours allocating a new block each time
- `pandas_ratio`: pandas' time per bar, on few symbols, over ours
- `ns_per_bar_20`: ours, per bar and symbol, for all 20; `copy_bandwidth_share`: bytes read and written by us, over what
  numpy.copyto moves in the same time
- `stream_us_500x31`: `Stream.update` with one bar of 500 symbols, 31 features; `stream_talib_ratio`: TA-Lib's stream
  handles of 500 symbols over that; `stream_talipp_ratio`: talipp's 20 indicators, on few symbols and scaled to 500
- `default_features`, `default_ns_1`, `default_ns_2`: the whole default set, ns per bar and feature with 1 and 2 threads
- `scaling_50_to_5000`: ns per bar and feature with 5,000 symbols over that with 50 (at most 1: linear or better), for
  as many values: 512 bars of the many, 51,200 of the few. Both sides are warm, with input and output in memory, and
  all pages touched before. They differ in two things that come with the number of symbols: the state of 5,000 (41 MB)
  goes through memory once in a run, the state of 50 stays in the cache; and 50 symbols fill 56 lanes, 5,000 fill 5,000.
  `scaling_short_50_to_5000`: the same with a quarter of the bars, where that way through memory weighs four times as
  much
- `first_result_s`: a fresh process, imports included, until it has the default features; compile cache warm
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.kernels import page
from benchmarks.kernels.peers import (
    THIRTY_ONE,
    TWENTY,
    pandas_twenty,
    talib_handles,
    talib_twenty,
    talipp_bar,
    talipp_twenty,
)
from benchmarks.targets import told
from kernels.catalogue import default_features
from kernels.compute import compute
from kernels.engine import aligned, engine_for
from kernels.panel import clock_values
from kernels.sample import SamplePanel, sample_panel
from kernels.streaming import Stream

Figures = dict[str, float | int | str]
_INTERVAL_MS = 300_000

_FRESH = """
import numpy as np
from kernels.catalogue import default_features
from kernels.compute import compute
from kernels.sample import sample_panel
block = compute(sample_panel(300, 20), default_features())
assert np.isfinite(block.values[:, -1]).all()
"""


def main(argv: list[str] | None = None) -> int:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="core to run on")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved repeats")
    parser.add_argument("--quick", action="store_true", help="small panels: shows that it runs, not how fast")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the page docs/kernel_speed.md, too")
    options = parser.parse_args(argv)
    cores = os.sched_getaffinity(0)
    small = 20 if options.quick else 1
    os.sched_setaffinity(0, {options.core})
    figures: Figures = {"core": options.core, "rounds": options.rounds, "quick": int(options.quick)}
    try:
        figures |= twenty_indicators(10_000 // small, 100, options.rounds)
        figures |= streaming(500 // small, options.rounds)
        figures |= default_set(max(512 // small, 16), 5_000 // small, options.rounds, cores)
        figures |= first_result()
    finally:
        os.sched_setaffinity(0, cores)
    figures["load_average"] = round(os.getloadavg()[0], 2)
    if options.write:
        options.write.write_text(page.page(figures))
    if options.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        for name, value, *target in told(figures, page.TARGETS):
            sys.stdout.write(f"{name:28s} {value:>10s} {' '.join(target)}".rstrip() + "\n")
    return 0


def interleaved(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median wall time in seconds of each run, all taking turns, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            kept = run()
            if turn:
                times[name].append(time.perf_counter() - started)
            del kept  # outside the time, for all alike
    return {name: statistics.median(values) for name, values in times.items()}


def _per_symbol(panel: SamplePanel) -> list[dict[str, np.ndarray]]:
    """Contiguous columns of each symbol, as the libraries want them."""
    stacked = {name: np.ascontiguousarray(values.T) for name, values in panel.columns.items()}
    return [{name: values[s] for name, values in stacked.items()} for s in range(len(panel.symbols))]


def twenty_indicators(bars: int, symbols: int, rounds: int) -> Figures:
    """Batch: 20 indicators over the panel."""
    panel = sample_panel(bars, symbols, seed=7)
    apart = _per_symbol(panel)
    few = [{name: pd.Series(values) for name, values in symbol.items()} for symbol in apart[:1]]
    block = np.zeros((len(TWENTY), bars, symbols), dtype=np.float32)
    source, target = np.ones(8_000_000), np.zeros(8_000_000)

    def discarded() -> None:
        for symbol in apart:
            talib_twenty(symbol)

    runs: dict[str, Callable[[], object]] = {
        "discarded": discarded,
        "kept": lambda: [talib_twenty(symbol) for symbol in apart],
        "ours": lambda: compute(panel, TWENTY, out=block),
        "ours_new": lambda: compute(panel, TWENTY),
        "copy": lambda: np.copyto(target, source),
    }
    took = interleaved(runs, rounds)
    pandas = interleaved({"pandas": lambda: [pandas_twenty(symbol) for symbol in few]}, max(rounds // 4, 1))[
        "pandas"
    ]
    moved = panel.columns["close"].nbytes * 5 + block.nbytes
    return {
        "talib_discarded_ratio": took["discarded"] / took["ours"],
        "talib_kept_ratio": took["kept"] / took["ours"],
        "talib_kept_new_block_ratio": took["kept"] / took["ours_new"],
        "pandas_ratio": pandas / len(few) / (took["ours"] / symbols),
        "ns_per_bar_20": took["ours"] / (bars * symbols) * 1e9,
        "talib_ns_per_bar_20": took["discarded"] / (bars * symbols) * 1e9,
        "copy_gb_s": 2 * source.nbytes / took["copy"] / 1e9,
        "copy_bandwidth_share": (moved / took["ours"]) / (2 * source.nbytes / took["copy"]),
    }


def streaming(symbols: int, rounds: int) -> Figures:
    """One closed bar of every symbol at a time."""
    history, few = 200, 4
    steps = 40 * rounds
    panel = sample_panel(history + steps + 1, symbols, seed=5)
    apart = _per_symbol(panel)
    bars = [{name: values[t] for name, values in panel.columns.items()} for t in range(len(panel.open_time))]
    stream = Stream(THIRTY_ONE, panel.symbols, _INTERVAL_MS)
    for t in range(history):
        stream.update(int(panel.open_time[t]), bars[t])
    peers = [
        (symbol, talib_handles({name: values[:history] for name, values in symbol.items()}))
        for symbol in apart
    ]
    talipp = [(symbol, talipp_twenty()) for symbol in apart[:few]]
    for t in range(history):
        _feed_all_talipp(talipp, t)
    times: dict[str, list[float]] = {"ours": [], "talib": [], "talipp": []}
    for t in range(history, history + steps):
        times["ours"].append(_timed(partial(stream.update, int(panel.open_time[t]), bars[t])))
        if t % 40 == 0:  # the others push us out of the caches: not before every bar
            times["talib"].append(_timed(partial(_feed_handles, peers, t)))
            times["talipp"].append(_timed(partial(_feed_all_talipp, talipp, t)) / few * symbols)
    ours, talib, other = (statistics.median(times[name]) for name in ("ours", "talib", "talipp"))
    return {
        "stream_us_500x31": ours * 1e6,
        "stream_talib_ratio": talib / ours,
        "stream_talipp_ratio": other / ours,
    }


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _feed_handles(peers: list, t: int) -> None:
    for symbol, opened in peers:
        bar = {name: values[t] for name, values in symbol.items()}
        for handle, columns in opened:
            handle.update(*[bar[name] for name in columns])


def _feed_all_talipp(peers: list, t: int) -> None:
    for symbol, sets in peers:
        _feed_talipp(symbol, sets, t)


def _feed_talipp(symbol: dict[str, np.ndarray], sets: tuple[list, list], t: int) -> None:
    bar = talipp_bar(symbol, t)
    for indicator in sets[0]:
        indicator.add(bar.close)
    for indicator in sets[1]:
        indicator.add(bar)


def default_set(bars: int, symbols: int, rounds: int, cores: set[int]) -> Figures:
    """Run all listed features: threads, and growth from few symbols to many over as many values."""
    names = default_features()
    pinned = os.sched_getaffinity(0)
    short, long = (growth(names, each, symbols, rounds) for each in (bars // 4, bars))
    wide = _steady(names, bars, symbols)
    os.sched_setaffinity(0, cores)
    threaded = interleaved({"one": lambda: wide(1), "two": lambda: wide(2)}, rounds)
    os.sched_setaffinity(0, pinned)
    values = bars * symbols * len(names)
    return {
        "default_features": len(names),
        "default_ns_1": threaded["one"] / values * 1e9,
        "default_ns_2": threaded["two"] / values * 1e9,
        "scaling_50_to_5000": long,
        "scaling_short_50_to_5000": short,
    }


def growth(names: tuple[str, ...], bars: int, symbols: int, rounds: int) -> float:
    """Time of many symbols over that of 50 for as many values."""
    wide, narrow = _steady(names, bars, symbols), _steady(names, bars * (symbols // 50), 50)
    took = interleaved({"wide": lambda: wide(1), "narrow": lambda: narrow(1)}, rounds)
    return took["wide"] / took["narrow"]


def _steady(names: tuple[str, ...], bars: int, symbols: int) -> Callable[[int], int]:
    """Engine run over a panel whose features are all warm, with a number of threads."""
    engine = engine_for(names)
    warm = engine.program.settle + 1
    panel = sample_panel(warm + bars, symbols, seed=3)
    state = engine.new_state(symbols)

    def part(first: int, end: int) -> tuple[list[np.ndarray], np.ndarray]:
        columns = [np.ascontiguousarray(panel.columns[name][first:end]) for name in engine.program.columns]
        return columns, clock_values(panel.open_time[first:end], engine.program.clock)

    before = np.empty((len(names), warm, symbols), dtype=np.float32)
    engine.run(*part(0, warm), state, 0, before)
    columns, clock = part(warm, warm + bars)
    panel = replace(panel, columns={})
    out = aligned((len(names), bars, symbols), np.float32)  # as `compute` makes it
    return lambda threads: engine.run(columns, clock, state, warm, out, threads)


def first_result() -> Figures:
    """Start a fresh process; its compile cache is filled by the run before."""
    engine_for(default_features())
    times = [_timed(lambda: subprocess.run([sys.executable, "-c", _FRESH], check=True)) for _ in range(3)]
    return {"first_result_s": statistics.median(times)}


if __name__ == "__main__":
    sys.exit(main())
