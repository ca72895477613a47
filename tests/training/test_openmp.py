"""LightGBM where the system has no OpenMP library: its wheel works with scikit-learn's."""

from __future__ import annotations

import subprocess
import sys

_LENT = """
import numpy as np
from pathlib import Path
from training.baselines.openmp import lend_openmp
assert lend_openmp()
import lightgbm
maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if "libgomp.so.1" in line]
assert maps and all("(deleted)" in line for line in maps), maps  # the copy alone, not the system's
assert not any(Path(line.split()[-2]).exists() for line in maps)
x = np.random.default_rng(1).normal(size=(2000, 3))
settings = {"objective": "regression", "verbosity": -1, "num_threads": 2}
fitted = lightgbm.train(settings, lightgbm.Dataset(x, x[:, 0]), 20)
print(np.corrcoef(fitted.predict(x), x[:, 0])[0, 1])
"""


def test_lightgbm_works_with_the_library_of_scikit_learn_alone() -> None:
    answer = subprocess.run([sys.executable, "-c", _LENT], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert float(answer.stdout) > 0.95
