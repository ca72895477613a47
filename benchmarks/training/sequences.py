"""Does a window teach more if every one of its bars is a target? Two ways of training, given the same CPU time.

    python -m benchmarks.training.sequences [--data DIR] [--interval 1h] [--json] [--cpu-seconds 120] [--seeds 3]

`last`: one target per window, attention over the whole window. `every`: causal attention, all bars of the window
are targets. `every, an eighth`: so too, with every eighth window only, since neighbouring windows share nearly all
of their bars. All train with the same settings and seeds; the number of epochs is what fits into the
CPU time, by the measured CPU time of an epoch. They keep the epoch with the lowest validation loss, and are judged on
the last bar of the same unseen windows. Markets: the built-in one, whose planted signal is known, and with `--data` the
recorded bars in DIR (`<SYMBOL>_<interval>.parquet`).

The difference of two losses is taken row by row, averaged over the seeds, and given with a 95 % interval from a
bootstrap of blocks of eight horizons.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl

from kernels.catalogue import available, model_features
from kernels.compute import compute
from market.intervals import interval_ms
from training.config import DOWN, UP, ForecasterConfig
from training.controls.markets import planted_market, planted_p_up
from training.data.dataset import build_training_set
from training.data.training_set import TrainingSet
from training.evaluate import Forecast, forecast, keras_predict_fn, skill_against_best
from training.paired_bootstrap import paired_difference
from training.scores import PROBABILITY_FLOOR, auc

WAYS = ("last", "every", "every, an eighth")
LOSSES = ("log_loss", "pinball", "log_volatility")
PRICES = ("open", "high", "low", "close", "volume")
MARKET_SEED = 7
BLOCK_HORIZONS = 8
VALIDATION_WINDOWS = 4_000


def recorded_panel(folder: Path, interval: str, bars: int) -> SimpleNamespace:
    """The last bars of all symbols that have this interval, on one time grid."""
    frames = {
        p.stem.removesuffix(f"_{interval}"): pl.read_parquet(p) for p in folder.glob(f"*_{interval}.parquet")
    }
    if not frames:
        raise SystemExit(f"no <SYMBOL>_{interval}.parquet in {folder}")
    symbols, step = tuple(sorted(frames)), interval_ms(interval)
    end = min(int(frame["open_time"][-1]) for frame in frames.values())
    grid = np.arange(end - (bars - 1) * step, end + step, step)
    rows = pl.DataFrame({"open_time": grid})
    joined = [rows.join(frames[name], on="open_time", how="left", maintain_order="left") for name in symbols]
    columns = {
        name: np.column_stack([frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for frame in joined])
        for name in PRICES
    }
    return SimpleNamespace(open_time=grid, symbols=symbols, interval=interval, columns=columns)


def row_losses(said: Forecast, data: TrainingSet) -> dict[str, np.ndarray]:
    """Losses of each row of the test split, (n,) each."""
    outcomes, levels = data.outcomes(data.rows["test"]), np.asarray(data.manifest.config.quantiles)
    p = said.direction[np.arange(len(outcomes.direction)), outcomes.direction]
    error = outcomes.scaled[:, None] - said.quantiles / outcomes.volatility[:, None]
    assert said.volatility is not None
    ratio = np.log(said.volatility / outcomes.volatility)
    return {
        "log_loss": -np.log(np.maximum(p.astype(np.float64), PROBABILITY_FLOOR)),
        "pinball": np.maximum(levels * error, (levels - 1) * error).mean(axis=1),
        "log_volatility": np.nan_to_num((outcomes.log_volatility_ratio - ratio) ** 2),
    }


def in_way(way: str, data: TrainingSet, config: ForecasterConfig) -> tuple[TrainingSet, ForecasterConfig]:
    """What a way of training sees, and its settings."""
    if way == "last":
        return data, config
    if way.endswith("eighth"):
        few = {"train": data.rows["train"][::8]}
        manifest = data.manifest.model_copy(update={"training_set_id": f"{data.manifest.training_set_id}-8"})
        data = replace(data, rows=data.rows | few, manifest=manifest)
    return data, config.model_copy(update={"targets": "every"})


def cpu_per_epoch(data: TrainingSet, config: ForecasterConfig, folder: Path) -> float:
    """CPU seconds of an epoch, validation included, once the step is compiled; taken from a tenth of the rows."""
    from training.fitting.fit import train

    ends: list[float] = []

    def note(progress: Any) -> None:
        if progress.validation_loss is not None:
            ends.append(time.process_time())

    tenth = replace(data, rows=data.rows | {"train": data.rows["train"][::10]})
    shorter = {"epochs": 3, "patience": 3, "validation_windows": config.validation_windows // 10}
    train(tenth, config.model_copy(update=shorter), folder, note)
    return 10 * min(np.diff(ends).tolist())


def trained(data: TrainingSet, config: ForecasterConfig, folder: Path) -> tuple[Forecast, dict[str, Any]]:
    """Train once; the forecasts for the test split, and what it took."""
    from training.fitting.fit import train
    from training.network.forecaster_files import load_forecaster

    started = time.process_time()
    result = train(data, config, folder)
    took = {"epochs": len(result.history), "best_epoch": result.meta.best_epoch}
    took["input_wait_share"] = max(epoch.input_wait_share or 0.0 for epoch in result.history)
    took["cpu_seconds"] = round(time.process_time() - started, 1)
    model, _ = load_forecaster(folder)
    return forecast(keras_predict_fn(model), data, "test"), took


def study(
    data: TrainingSet,
    config: ForecasterConfig,
    folder: Path,
    *,
    budget: float,
    seeds: int,
    best: np.ndarray | None,
) -> dict[str, Any]:
    """Train all ways with each seed, in turns, and compare them."""
    per_epoch = {
        way: cpu_per_epoch(*in_way(way, data, config), folder / f"pace-{place}")
        for place, way in enumerate(WAYS)
    }
    runs: list[dict[str, Any]] = []
    losses: dict[str, list[dict[str, np.ndarray]]] = {way: [] for way in WAYS}
    for seed in range(1, seeds + 1):
        for way in WAYS:
            epochs = max(1, round(budget / per_epoch[way]))
            seen, settings = in_way(way, data, config)
            settings = settings.model_copy(update={"seed": seed, "epochs": epochs, "patience": epochs})
            said, took = trained(seen, settings, folder / f"{WAYS.index(way)}-{seed}")
            losses[way].append(row_losses(said, data))
            runs.append({"way": way, "seed": seed, **took, **_judged(said, losses[way][-1], data, best)})
            sys.stderr.write(f"{runs[-1]}\n")
    return {
        "rows": {name: len(rows) for name, rows in data.rows.items()},
        "cpu_seconds_per_epoch": per_epoch,
        "runs": runs,
        "minus_last": {
            way: {name: _difference(losses, way, name, data) for name in LOSSES} for way in WAYS[1:]
        },
    }


def _judged(
    said: Forecast, losses: dict[str, np.ndarray], data: TrainingSet, best: np.ndarray | None
) -> dict[str, Any]:
    returns = data.outcomes(data.rows["test"]).log_return
    score, moved = said.direction[:, UP] - said.direction[:, DOWN], returns != 0
    figures: dict[str, Any] = {name: float(values.mean()) for name, values in losses.items()}
    figures["auc_sign"] = auc(score[moved], returns[moved] > 0)
    if best is not None:
        figures["share_of_bits"] = skill_against_best(score, best, returns)["share_of_bits"]
    return figures


def _difference(
    losses: dict[str, list[dict[str, np.ndarray]]], way: str, name: str, data: TrainingSet
) -> dict[str, float]:
    mean = {way: np.mean([run[name] for run in runs], axis=0) for way, runs in losses.items()}
    block = BLOCK_HORIZONS * data.manifest.config.horizon
    found = paired_difference(
        mean[way] - mean["last"], data.rows["test"][:, 0], block=block, draws=2000, seed=0
    )
    low, high = found.interval or (float("nan"), float("nan"))
    return {"mean": found.mean, "low": low, "high": high}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Run the study on each market."""
    config = ForecasterConfig(
        max_windows=given.windows, validation_windows=VALIDATION_WINDOWS, **json.loads(given.config)
    )
    found: dict[str, Any] = {"cpu_seconds": given.cpu_seconds, "seeds": given.seeds, "markets": {}}
    options = {"budget": given.cpu_seconds, "seeds": given.seeds}
    with tempfile.TemporaryDirectory(prefix="klinecast-sequences-") as name:
        folder = Path(name)
        if not given.recorded_only:
            made = planted_market(bars=given.bars, symbols=given.symbols, seed=MARKET_SEED)
            data = _training_set(made, config, folder / "planted")
            rows = data.rows["test"]
            best = planted_p_up(made, seed=MARKET_SEED, horizon=config.horizon)[rows[:, 0], rows[:, 1]]
            found["markets"]["built-in, 5m"] = study(data, config, folder / "a", best=best, **options)
        if given.data:
            panel = recorded_panel(given.data, given.interval, given.bars)
            data = _training_set(panel, config, folder / "recorded")
            label = f"{given.data.name}, {given.interval}"
            found["markets"][label] = study(data, config, folder / "b", best=None, **options)
    return found


def _training_set(panel: Any, config: ForecasterConfig, folder: Path) -> TrainingSet:
    block = compute(panel, available(model_features(panel.open_time), panel.columns))
    return build_training_set(block, panel.columns["close"], panel.interval, config, folder)


def table(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "| market | way | epochs | CPU s | log loss | pinball | log volatility, squared error | AUC of the sign |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for market, result in found["markets"].items():
        for way in WAYS:
            runs = [run for run in result["runs"] if run["way"] == way]
            means = {
                key: np.mean([run[key] for run in runs])
                for key in ("epochs", "cpu_seconds", *LOSSES, "auc_sign")
            }
            lines.append(
                f"| {market} | {way} | {means['epochs']:.0f} | {means['cpu_seconds']:.0f} | {means['log_loss']:.4f}"
                f" | {means['pinball']:.4f} | {means['log_volatility']:.4f} | {means['auc_sign']:.4f} |"
            )
        for way, told in result["minus_last"].items():
            cells = [f"{d['mean']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]" for d in told.values()]
            lines.append(f"| {market} | {way} - last | | | {' | '.join(cells)} | |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run the study and print it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training.sequences", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--data", type=Path, help="folder of <SYMBOL>_<interval>.parquet")
    parser.add_argument("--interval", default="1h")
    parser.add_argument("--recorded-only", action="store_true", help="leave the built-in market out")
    parser.add_argument("--cpu-seconds", type=float, default=120.0, help="of each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--windows", type=int, default=40_000, help="training windows at most")
    parser.add_argument("--bars", type=int, default=8_000, help="bars of each symbol")
    parser.add_argument("--symbols", type=int, default=8, help="of the built-in market")
    parser.add_argument("--config", default="{}", help="other settings of the forecaster, as a JSON object")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    given = parser.parse_args(arguments)
    found = measure(given)
    sys.stdout.write((json.dumps(found) if given.json else table(found)) + "\n")


if __name__ == "__main__":
    main()
