"""How well the forecaster does beside its baselines, and whether the judgement itself can be trusted.

    python -m benchmarks.skill [--data DIR] [--interval 1h] [--symbols A,B] [--quick] [--json]

DIR holds Parquet bars, `<SYMBOL>_<interval>.parquet` with `open_time` (ms), open, high, low, close, volume, or
sub-folders with such files. Without DIR, bars of the built-in market are judged. The forecaster and every baseline are
trained anew in each walk-forward fold; then the three controls are run. docs/judgement.md says what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.skill.measure import measure, training_set_of
from benchmarks.skill.page import markdown
from benchmarks.skill.recorded import NoBarsError, recorded_panel
from kernels.errors import KernelError
from market.errors import MarketError
from market.store import Panel
from training.baselines.registry import BASELINES
from training.config import ForecasterConfig
from training.controls.markets import SyntheticMarket, planted_market
from training.errors import TrainingError
from training.judgement import JudgementSettings, render_html

QUICK = {"max_windows": 2_000, "validation_windows": 1_000, "epochs": 1}
BUILTIN_BARS, BUILTIN_SYMBOLS = 20_000, 6
QUICK_FOLDS, QUICK_DRAWS, QUICK_BARS = 2, 200, 4_000


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    given = _parser().parse_args(arguments)
    try:
        return _run(given)
    except (KernelError, MarketError, TrainingError) as error:
        print(f"benchmarks.skill: {error.what} ({error.where}); {error.remedy}", file=sys.stderr)
        return 2
    except NoBarsError as error:
        print(f"benchmarks.skill: {error}", file=sys.stderr)
        return 2


def _run(given: argparse.Namespace) -> int:
    config, settings = _settings(given)
    started = time.monotonic()
    bars = given.bars or (QUICK_BARS if given.quick else None)
    panel: Panel | SyntheticMarket
    if given.data:
        panel = recorded_panel(
            given.data,
            interval=given.interval,
            symbols=tuple(given.symbols.split(",")) if given.symbols else (),
            since_ms=given.since,
            until_ms=given.until,
            last=bars,
        )
    else:
        panel = planted_market(
            bars=bars or BUILTIN_BARS, symbols=BUILTIN_SYMBOLS, seed=1, interval=given.interval or "5m"
        )
    with tempfile.TemporaryDirectory(prefix="klinecast-skill-") as scratch:
        work = given.workdir or Path(scratch)
        data = training_set_of(panel, config, work / "training_set")
        judgement, told = measure(
            data,
            config,
            settings,
            work,
            controls=not given.without_controls,
            tell=lambda line: print(
                f"{time.monotonic() - started:7.0f} s  {line}", file=sys.stderr, flush=True
            ),
        )
    told = {"data": given.data.name if given.data else "built-in market", **told}
    told["seconds"] = round(time.monotonic() - started, 1)
    if given.report:
        given.report.write_text(render_html(judgement))
    print(json.dumps(told) if given.json else markdown(told))
    return 0


def _settings(given: argparse.Namespace) -> tuple[ForecasterConfig, JudgementSettings]:
    of_config: dict[str, Any] = dict(QUICK) if given.quick else {}
    for name in ("horizon", "epochs", "max_windows", "validation_windows"):
        if getattr(given, name) is not None:
            of_config[name] = getattr(given, name)
    folds = given.folds or (QUICK_FOLDS if given.quick else JudgementSettings().folds)
    draws = given.draws or (QUICK_DRAWS if given.quick else JudgementSettings().draws)
    baselines = tuple(given.baselines.split(",")) if given.baselines else tuple(BASELINES)
    costs = {
        name: getattr(given, name) for name in ("fee_bps", "slippage_bps") if getattr(given, name) is not None
    }
    return ForecasterConfig(**of_config), JudgementSettings(
        folds=folds, draws=draws, baselines=baselines, **costs
    )


def _time(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.skill", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of <SYMBOL>_<interval>.parquet, or of such folders")
    parser.add_argument("--interval", help="by default the one with the most files")
    parser.add_argument("--symbols", help="comma-separated; by default all")
    parser.add_argument("--since", type=_time, help="first day, such as 2025-01-01 (UTC)")
    parser.add_argument("--until", type=_time, help="day after the last one")
    parser.add_argument("--bars", type=int, help="only the newest so many bars")
    parser.add_argument(
        "--quick", action="store_true", help="small training, newest bars, fewer folds and draws"
    )
    parser.add_argument("--folds", type=int)
    parser.add_argument("--draws", type=int)
    parser.add_argument("--baselines", help=f"comma-separated, of {','.join(BASELINES)}")
    parser.add_argument("--horizon", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--max-windows", type=int)
    parser.add_argument("--validation-windows", type=int)
    parser.add_argument("--fee-bps", type=float)
    parser.add_argument("--slippage-bps", type=float)
    parser.add_argument("--without-controls", action="store_true")
    parser.add_argument(
        "--workdir", type=Path, help="keep what was made here; the same command goes on with it"
    )
    parser.add_argument("--report", type=Path, help="also write the HTML report to this file")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
