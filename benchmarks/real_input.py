"""The whole pipeline on recorded bars: replayed by the built-in exchange, ingested in two steps, through to a sweep.

    python -m benchmarks.real_input --data DIR [--interval 15m] [--split TIME] [--json]

DIR is a folder of Parquet bars, `<SYMBOL>_<interval>.parquet`. The store must equal the files bar for bar, or the
run stops and says where it does not. The figures at the end are the model's on its test split.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from assets.clock import wall_clock_ms
from assets.exchange_process import step_clock
from market.exchange.launch import start_exchange
from market.intervals import interval_ms
from market.store import KlineStore

PRICES = ("open", "high", "low", "close", "volume")


class StageFailedError(Exception):
    """A stage of the pipeline ended with an error; its output is the message."""


class NotEqualError(Exception):
    """The store does not hold what the files hold."""


@dataclass
class Pipeline:
    """One home, fed from a replay, driven by the command line as a user drives it.

    Attributes
    ----------
    home
        KLINECAST_HOME of the run.
    exchange_url
        The replaying exchange.
    interval
        The one interval that is ingested and predicted.
    seconds
        How long each stage took.
    """

    home: Path
    exchange_url: str
    interval: str
    history_bars: int
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, job: str, stage: str | None = None, config: Mapping[str, Any] | None = None) -> None:
        """Run one job with `klinecast run`; raises StageFailedError with what it printed."""
        command = [sys.executable, "-m", "orchestration.cli", "run", job]
        if config:
            file = self.home / "run_config.yaml"
            file.write_text(yaml.safe_dump(dict(config)))
            command += ["--config", str(file)]
        started = time.perf_counter()
        answer = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        self.seconds[stage or job] = time.perf_counter() - started
        if answer.returncode != 0:
            raise StageFailedError(f"{job}: {answer.stdout}{answer.stderr}")

    def store(self) -> KlineStore:
        """Open the store of this home."""
        return KlineStore.open(self.home)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KLINECAST_")}
        return kept | {
            "KLINECAST_HOME": str(self.home),
            "KLINECAST_EXCHANGE_URL": self.exchange_url,
            "KLINECAST_SYMBOLS": "all",
            "KLINECAST_INTERVALS": self.interval,
            "KLINECAST_HISTORY_BARS": str(self.history_bars),
        }


def recorded_bars(folder: Path, interval: str) -> pl.DataFrame:
    """Read the bars of one interval from a folder of Parquet files, by symbol and open time."""
    files = sorted(folder.glob(f"*_{interval}.parquet"))
    frames = [
        pl.read_parquet(file)
        .select("open_time", *PRICES)
        .with_columns(pl.lit(file.stem.removesuffix(f"_{interval}").replace("_", "")).alias("symbol"))
        for file in files
    ]
    return pl.concat(frames).select("symbol", "open_time", *PRICES).sort("symbol", "open_time")


def require_equal(store: KlineStore, recorded: pl.DataFrame, interval: str, before: int) -> int:
    """Compare the store with the recorded bars that had closed before a time; returns how many there are.

    Raises
    ------
    NotEqualError
        Naming the first bar that differs.
    """
    wanted = recorded.filter(pl.col("open_time") + interval_ms(interval) <= before)
    found = (
        store.scan(interval, columns=["symbol", "open_time", *PRICES]).collect().sort("symbol", "open_time")
    )
    if found.height != wanted.height:
        lost = wanted.join(found, on=["symbol", "open_time"], how="anti")
        extra = found.join(wanted, on=["symbol", "open_time"], how="anti")
        raise NotEqualError(
            f"{found.height} bars stored, {wanted.height} recorded: lost {lost}, extra {extra}"
        )
    for column in wanted.columns:
        differ = wanted[column] != found[column]
        if differ.any():
            raise NotEqualError(f"{column} differs at {wanted.filter(differ).row(0)}")
    return wanted.height


def run_pipeline(
    data: Path,
    interval: str,
    home: Path,
    *,
    split_ms: int | None = None,
    training: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run every stage on recorded bars and return what came out.

    Parameters
    ----------
    data, interval
        Folder of Parquet bars, and which interval of it.
    home
        An empty KLINECAST_HOME.
    split_ms
        Where the first ingest ends, ms UTC; by default two thirds into the data.
    training
        Settings of the forecaster that differ from its defaults.
    """
    recorded = recorded_bars(data, interval)
    first, last = int(recorded["open_time"].min()), int(recorded["open_time"].max())  # type: ignore[arg-type]
    end = last + interval_ms(interval)
    common_end = int(
        recorded.group_by("symbol").agg(pl.col("open_time").max())["open_time"].min()
    ) + interval_ms(interval)  # type: ignore[arg-type]
    split = split_ms or first + (end - first) * 2 // 3
    bars = (end - first) // interval_ms(interval)
    with start_exchange(replay=data, now=split, speed=0, port=0) as exchange:
        pipeline = Pipeline(home, exchange.url, interval, max(500, bars))
        pipeline.run("ingest", "ingest, first two thirds")
        with pipeline.store() as store:
            first_part = require_equal(store, recorded, interval, split)
        step_clock(exchange.url, common_end)
        pipeline.run("ingest", "ingest, the rest")
        with pipeline.store() as store:
            both_parts = require_equal(store, recorded, interval, common_end)
        pipeline.run("make_features")
        config = {"ops": {"training_set": {"config": dict(training)}}} if training else None
        pipeline.run("train_and_export", config=config)
        pipeline.run("prediction_sweep")
        with pipeline.store() as store:
            predictions = store.predictions()
            flags = store.flags()
        step_clock(exchange.url, end)  # the recordings end one after another, within hours
        pipeline.run("ingest", "ingest, to the last recorded bar")
        with pipeline.store() as store:
            all_bars = require_equal(store, recorded, interval, end)
    version = json.loads((home / "models" / "current").read_text())["version"]
    manifest = json.loads((home / "models" / version / "manifest.json").read_text())
    return {
        "symbols": recorded["symbol"].n_unique(),
        "interval": interval,
        "bars_after_first_step": first_part,
        "bars_after_second_step": both_parts,
        "bars_in_all": all_bars,
        "flags": flags.height,
        "model_version": version,
        "metrics": manifest["metrics"],
        "parity": manifest["parity"],
        "files": sorted(manifest["files"]),
        "predictions": predictions.to_dicts(),
        "seconds": {stage: round(value, 1) for stage, value in pipeline.seconds.items()},
    }


_PAGE = """# Real input, end to end

The whole pipeline on recorded bars: the built-in exchange replays a folder of Parquet files, `klinecast run` does
every stage, and the store is compared with the files bar for bar after each ingest. A difference ends the run.

```sh
python -m benchmarks.real_input --data FOLDER --interval {interval} [--json]
```

`FOLDER` holds `<SYMBOL>_<interval>.parquet` with `open_time` (ms), open, high, low, close, volume. That command wrote
this page, with `--write docs/real_input.md`, on {symbols} USD-M futures symbols and {bars_in_all:,} bars of {interval}.

## What came out

| stage | seconds |
|---|---|
{seconds}

The store equalled the files after the first step ({bars_after_first_step:,} bars), after the second
({bars_after_second_step:,}) and at the end ({bars_in_all:,}). {flags:,} flags were raised; the sweep predicted
{predicted} of {symbols} symbols.

On the test split, the newest {rows:,} windows, which neither training nor model choice has seen:

| forecast | accuracy | balanced accuracy | AUC of the sign | log loss | pinball | coverage of [q10, q90] |
|---|---|---|---|---|---|---|
{scores}

{verdict}

The exported files on real windows, against the Keras model:

| file | largest difference, probabilities | largest difference, quantiles | same class | in the bundle |
|---|---|---|---|---|
{parity}

These are one training of the default model with one seed. The recordings are plain OHLCV bars: features that need
trades or taker volumes are left out, since the source does not know them.
"""


def page(outcome: Mapping[str, Any]) -> str:
    """Write what came out as the page docs/real_input.md."""
    metrics = outcome["metrics"]
    low, high = metrics["model"]["auc_sign_interval"] or (float("nan"), float("nan"))
    found = "above" if low > 0.5 else "not distinguishable from"
    rows = []
    for name in ("model", "base_rate", "always_flat", "persistence"):
        score = metrics[name]
        values = [
            score.get(key)
            for key in ("accuracy", "balanced_accuracy", "auc_sign", "log_loss", "pinball", "coverage")
        ]
        rows.append(
            f"| {name.replace('_', ' ')} | "
            + " | ".join("" if v is None else f"{v:.3f}" for v in values)
            + " |"
        )
    parity = [
        f"| `{name}` | {report['max_abs_difference']['direction']:.1e}"
        f" | {report['max_abs_difference']['quantiles']:.1e}"
        f" | {report['agreement']:.1%} | {'yes' if name in outcome['files'] else 'no'} |"
        for name, report in outcome["parity"].items()
    ]
    return _PAGE.format(
        **{name: value for name, value in outcome.items() if name not in ("seconds", "parity")},
        seconds="\n".join(f"| {stage} | {value:.1f} |" for stage, value in outcome["seconds"].items()),
        rows=metrics["rows"],
        predicted=len(outcome["predictions"]),
        scores="\n".join(rows),
        parity="\n".join(parity),
        verdict=f"The AUC of the sign lies in [{low:.3f}, {high:.3f}] (95 % block bootstrap): skill that is {found}"
        " chance.",
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the pipeline and print what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of <SYMBOL>_<interval>.parquet")
    parser.add_argument("--interval", default="15m")
    parser.add_argument(
        "--home", type=Path, default=None, help="KLINECAST_HOME to use; default: a temporary one"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--write", type=Path, default=None, help="also write the page docs/real_input.md")
    given = parser.parse_args(arguments)
    started = wall_clock_ms()
    with tempfile.TemporaryDirectory() as scratch:
        outcome = run_pipeline(given.data, given.interval, given.home or Path(scratch))
    outcome["seconds_in_all"] = round((wall_clock_ms() - started) / 1000, 1)
    if given.write:
        given.write.write_text(page(outcome))
    if given.json:
        print(json.dumps(outcome, indent=1))
        return 0
    for name in (
        "symbols",
        "interval",
        "bars_after_first_step",
        "bars_after_second_step",
        "bars_in_all",
        "flags",
    ):
        print(f"{name:<24}{outcome[name]}")
    for group in ("seconds", "metrics", "parity"):
        print(f"{group}\n{yaml.safe_dump(outcome[group], sort_keys=False, indent=2)}")
    print(pl.DataFrame(outcome["predictions"]).drop("created_at"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
