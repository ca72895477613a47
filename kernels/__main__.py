"""`python -m kernels`: fill the compile cache, write the feature table, check features."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from kernels.errors import KernelError


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m kernels", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("warm", help="compile the default and the model features, once per machine")
    commands.add_parser("docs", help="print docs/features.md")
    check = commands.add_parser("check", help="compare all ways of computing features, bit for bit")
    check.add_argument("features", nargs="+", help="names of features, or Python files that define some")
    options = parser.parse_args(argv)
    try:
        if options.command == "docs":
            return _docs()
        return _warm() if options.command == "warm" else _check(options.features)
    except KernelError as error:
        sys.stderr.write(f"{error}\n")
        return 2


# The catalogue loads the user's files of features when it is imported: what is wrong in one is told as above.


def _docs() -> int:
    from kernels.documentation import features_page

    sys.stdout.write(features_page())
    return 0


def _warm() -> int:
    from kernels.catalogue import default_features, model_features
    from kernels.engine import engine_for
    from kernels.objects import cache_folder

    started = time.perf_counter()
    for names in (model_features(), model_features(np.zeros(0, np.int64)), default_features()):
        engine_for(names)
    sys.stdout.write(f"kernels ready in {cache_folder()} after {time.perf_counter() - started:.1f} s\n")
    return 0


def _check(given: list[str]) -> int:
    from kernels.catalogue import load_features
    from kernels.parity import check_features

    names: list[str] = []
    for item in given:
        names += load_features(Path(item)) if item.endswith(".py") else (item,)
    names = list(dict.fromkeys(names))  # a file and a name of its own, too
    report = check_features(names)
    for line in report.failures:
        sys.stdout.write(f"FAILED {line}\n")
    verdict = f"{len(report.failures)} failures" if report.failures else "all equal"
    sys.stdout.write(f"{len(names)} features, {len(report.checks)} checks: {verdict}\n")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
