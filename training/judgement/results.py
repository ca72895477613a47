"""What a judgement finds, ready for JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from training.config import ForecasterConfig
from training.data.splits import SplitSpan
from training.errors import EvaluationError
from training.judgement.settings import JudgementSettings

FORMAT_VERSION = 1
JUDGEMENT_FILE = "judgement.json"
REPORT_FILE = "report.html"

Verdict = Literal["better", "worse", "cannot be told"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Frozen):
    """A score with its interval; the interval is None where it cannot be told."""

    value: float
    low: float | None
    high: float | None


Scores = dict[str, Figure]
"""By the names of training/judgement/statistics.py."""


class Difference(_Frozen):
    """How much better the forecaster is than a baseline by one score; positive is better, whichever way it counts."""

    baseline: str
    score: str
    figure: Figure
    verdict: Verdict
    folds_better: int
    folds: int


class Bin(_Frozen):
    """One point of a reliability diagram: mean probability said, frequency that came with its interval, rows."""

    said: float
    came: float
    low: float | None
    high: float | None
    rows: int


class FoldScores(_Frozen):
    """One fold: where it lies, what was left out, and how each forecast did."""

    index: int
    training_set_id: str
    spans: dict[str, SplitSpan]
    counts: dict[str, int]
    class_share: dict[str, tuple[float, ...]]
    scores: dict[str, Scores]
    seconds: dict[str, float]


class Curve(_Frozen):
    """Sum of net returns over time, in shares of the capital."""

    open_time: tuple[int, ...]
    value: tuple[float, ...]


class About(_Frozen):
    """What a judgement belongs to, for whoever reads its report; its scores depend on none of it.

    Attributes
    ----------
    model_version
        The version whose recipe is judged; None before a forecaster of these settings was trained.
    judged_at
        ms since epoch, by the exchange's clock.
    market
        Whose bars they are, in words; empty where nobody said.
    simulated
        Whether that market is the built-in exchange's own.
    """

    model_version: str | None = None
    judged_at: int
    market: str
    simulated: bool


class Judgement(_Frozen):
    """How a forecaster does beside its baselines.

    `scores`, `symbols` and the folds' scores are by the name of the forecast; `reliability` by forecast and class;
    `left_out` tells of baselines that this machine cannot make, and why; `blocks` how many bootstrap blocks the bars
    with rows fill, None in judgements of former versions.
    """

    format_version: int = FORMAT_VERSION
    judgement_id: str
    training_set_id: str
    interval: str
    symbol_names: tuple[str, ...]
    config: ForecasterConfig
    settings: JudgementSettings
    rows: int
    bars: int
    blocks: int | None = None
    first_time: int
    last_time: int
    scores: dict[str, Scores]
    symbols: dict[str, dict[str, Scores]]
    folds: tuple[FoldScores, ...]
    differences: tuple[Difference, ...]
    reliability: dict[str, dict[str, tuple[Bin, ...]]]
    curves: dict[str, Curve]
    left_out: dict[str, str] = {}

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a judgement from its folder.

        Raises
        ------
        EvaluationError
            There is none, or it is damaged or of another format.
        """
        path = folder / JUDGEMENT_FILE
        try:
            found = cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise EvaluationError(
                f"the judgement cannot be read: {str(error).splitlines()[0]}",
                where=str(path),
                remedy="materialise `judgement` again: klinecast run train_and_export",
            ) from error
        return found
