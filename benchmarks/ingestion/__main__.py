"""Ingestion and store: how fast bars get in, how small they lie and how fast they come out, beside what others do.

    python -m benchmarks.ingestion [--json] [--only NAME ...] [--quick] [--set PART.SIZE=N ...] [--write PAGE]

Everything runs side by side in one run, against the built-in exchange on loopback and stores under `--scratch`. What
is measured, and what the names of the figures mean, is told in benchmarks/ingestion/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.ingestion import report
from benchmarks.ingestion.measure import Figures, machine_facts, scratch_folder
from benchmarks.targets import judged

PARTS = ("rest", "archives", "upsert", "panel", "scans", "growth", "savings")
_ON_HOT_STORES = ("upsert", "panel")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for and print it."""
    options = _options(arguments)
    sizes = _sizes(options.only or PARTS, options.set, quick=options.quick)
    options.scratch.mkdir(parents=True, exist_ok=True)
    results: dict[str, Figures] = {"machine": machine_facts(options.scratch)}
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(scratch_folder(options.scratch, "state"))
        os.environ["XDG_STATE_HOME"] = str(state)  # what is known of real hosts' limits is none of ours
        hot: list[Any] = []  # what the parts on hot stores are given; made once, when the first of them comes
        for name in [part for part in PARTS if part in sizes]:
            started = time.perf_counter()
            on_hot = name in _ON_HOT_STORES
            if on_hot and not hot:
                stores = _module("hot_stores").hot_stores(sizes["hot_stores"], options.scratch)
                hot.append(stack.enter_context(stores))
            results[name] = _module(name).run(sizes[name], options.scratch, *(hot if on_hot else ()))
            results[name][f"{name}_seconds"] = round(time.perf_counter() - started, 1)
            print(f"{name}: {results[name][f'{name}_seconds']} s", file=sys.stderr, flush=True)
            gc.collect()
    if options.write:
        options.write.write_text(report.page(results, " --quick" if options.quick else ""))
    if options.quick:
        print("these are small sizes: they show that it runs, not how fast", file=sys.stderr)
    if options.json:
        print(json.dumps(_flat(results, quick=options.quick)))
    else:
        print("\n".join(report.lines(results)))
    return 0


def _module(part: str) -> Any:
    """Import a part when it is wanted: some bring large libraries along."""
    return import_module(f"benchmarks.ingestion.{part}")


def _flat(results: Mapping[str, Figures], *, quick: bool) -> dict[str, Any]:
    """Return one object: all figures by name, the targets and the machine apart."""
    figures = {name: value for part in results if part != "machine" for name, value in results[part].items()}
    return {
        **figures,
        "quick": quick,
        "targets": judged(figures, report.TARGETS),
        "machine": results["machine"],
    }


def _sizes(parts: Sequence[str], changes: Sequence[str], *, quick: bool) -> dict[str, Any]:
    """Return the sizes of these parts, and of what they share, with what was given by --set."""
    wanted = [*parts, *(["hot_stores"] if set(parts) & set(_ON_HOT_STORES) else [])]
    sizes = {name: _module(name).QUICK if quick else _module(name).FULL for name in wanted}
    for change in changes:
        place, _, number = change.partition("=")
        part, _, field = place.partition(".")
        known = {entry.name for entry in dataclasses.fields(sizes[part])} if part in sizes else set()
        if field not in known or not number.isdecimal():
            told = f"PART of {', '.join(sizes)}" if not known else f"SIZE of {', '.join(sorted(known))}"
            raise SystemExit(f"--set {change}: give PART.SIZE=N, {told}")
        sizes[part] = dataclasses.replace(sizes[part], **{field: int(number)})
    return sizes


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ingestion",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="small: shows that it runs, not how fast")
    parser.add_argument("--set", nargs="+", default=[], metavar="PART.SIZE=N", help="change a size")
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="write the page docs/ingestion_benchmarks.md, too"
    )
    parser.add_argument(
        "--scratch",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="folder for stores, on the disk that is to be measured; up to 8 GB are used, and given back",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
