"""How often the intervals hold the truth where there are few blocks.

    python -m benchmarks.skill.coverage [--samples 2000]

Each sample is a mean of labels that overlap over 6 bars, of 3 symbols that share half of their variance, on so many
blocks of 8 horizons; the truth is 0. Judged are the bootstrap intervals of training/block_interval.py and the Student
intervals of the controls (training/controls/verdicts.py), both at 95 %.
"""

from __future__ import annotations

import argparse

import numpy as np

from training.block_interval import block_interval
from training.bootstrap import BlockDraws
from training.controls.verdicts import student_interval

HORIZON, BLOCK, SYMBOLS, LEVEL, DRAWS = 6, 48, 3, 0.95, 400


def coverage(blocks: int, samples: int) -> tuple[float, float]:
    """Return the shares of samples whose bootstrap, and whose Student, interval holds the truth."""
    rng = np.random.default_rng(blocks)
    bars = blocks * BLOCK
    time = np.repeat(np.arange(bars), SYMBOLS)
    held = np.zeros(2)
    for sample in range(samples):
        common = rng.standard_normal((bars + HORIZON, 1))
        steps = (common + rng.standard_normal((bars + HORIZON, SYMBOLS))).cumsum(axis=0)
        labels = steps[HORIZON:] - steps[:-HORIZON]
        columns = np.column_stack([labels.sum(axis=1), np.full(bars, SYMBOLS)])
        sums = BlockDraws(bars, block=BLOCK, draws=DRAWS, seed=sample).sums(columns)
        drawn = block_interval(float(labels.mean()), sums[:, 0] / sums[:, 1], LEVEL, blocks=blocks)
        assert drawn is not None
        student = student_interval(labels.ravel(), time, block=BLOCK, level=LEVEL)
        held += [drawn[0] <= 0 <= drawn[1], student.low <= 0 <= student.high]
    return float(held[0] / samples), float(held[1] / samples)


def main() -> None:
    """Print a line for each number of blocks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=2_000)
    samples = parser.parse_args().samples
    print("| blocks | bootstrap | Student |\n|---|---|---|")
    for blocks in (10, 20, 40, 100):
        bootstrap, student = coverage(blocks, samples)
        print(f"| {blocks} | {bootstrap:.1%} | {student:.1%} |", flush=True)


if __name__ == "__main__":
    main()
