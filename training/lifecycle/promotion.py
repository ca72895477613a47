"""Champion and challenger: which version predictions are made with from now on.

A challenger becomes champion if its gain on the newest rows that neither has seen is larger than the champion's, by
more than chance would allow for as many forecasters as were tried. The test is one-sided, of paired differences in
blocks of time (training/paired_bootstrap.py). Trials are counted from the champion's own first decision on, and so is
every further look at a pair. The m-th of them is given alpha / (m (m + 1)), which sums to alpha over all that will ever
come. So the chance of promoting any challenger that is no better is at most alpha while one version is champion,
however the trials depend on each other (the union bound, Bonferroni; Dunn 1961, "Multiple comparisons among means").
Where a trials had been counted at the last look and b are now, the trials between share what they are given, of which
one is shown: it has alpha / ((a + 1) (b + 1)).

Where nothing is compared:

============================  ========  ==========================================================================
no champion yet               promoted  it has passed its blocking checks, or they were let pass
champion cannot be judged     promoted  its files are damaged, or it needs what these bars do not have: it could
                                        not predict either
champion of another interval  promoted  the interval of the forecasts was changed, which is a decision
the same forecaster           kept      nothing would change
too few unseen rows           kept      whatever its features; a person can still choose it
set aside by hand             kept      a person chose the champion after this one had been decided about
============================  ========  ==========================================================================
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from training.errors import TrainingError
from training.export.bundle import BundleError, read_current, set_current, verify_files
from training.export.manifest import Manifest
from training.lifecycle.comparison import Comparison, Contestant, compare, span_days
from training.lifecycle.exported_forecast import ExportedForecastError, onnx_predict_fn
from training.lifecycle.registry import Decision, Reason, deciding, record_decision, standing
from training.lifecycle.trials import Clock, count_trials
from training.lifecycle.unseen import Bars

JUDGED_FILE = "model.onnx"
"""The float32 file: the other files of a bundle are held against it by their parity reports."""

_FEWEST_DRAWS, _MOST_DRAWS = 2_000, 200_000
_DRAWS_BEYOND = 20
"""Draws that are to lie beyond the corrected level, so that it can be told from chance in the bootstrap."""

_ROUNDS = 5
"""Comparisons before it is given up that nobody else decides meanwhile."""


class PromotionError(TrainingError):
    """A challenger cannot be compared."""


class PromotionSettings(BaseModel):
    """How strict a promotion is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="chance that while one version is champion any challenger that is no better is promoted; spent"
        " over all trials and looks as level / (m (m + 1)) for the m-th",
    )
    min_blocks: int = Field(
        default=10, ge=2, description="blocks of 8 horizons that the unseen span must hold at least"
    )
    max_rows: int = Field(
        default=50_000, ge=100, description="unseen rows judged at most; bars are thinned out"
    )


def promote(
    home: Path,
    challenger: Path,
    bars: Bars,
    *,
    now: Clock,
    by: str,
    checks: str = "nothing is known of its checks",
    settings: PromotionSettings | None = None,
) -> Decision:
    """Decide about a challenger, write the decision down, and let it take effect.

    Parameters
    ----------
    home
        The platform's home folder.
    challenger
        Its bundle, which its blocking checks have let pass.
    bars
        Features and close prices of the challenger's interval, the newest bar last; those that a model needs and
        that are not among them count as not to be had.
    now, by
        Gives the time when it is decided, by the exchange's clock, ms since epoch; and who or what decides.
    checks
        What became of its blocking checks, in words: all that is known of a first model.
    settings
        How strict; by default as `PromotionSettings` says.

    Returns
    -------
    Decision
        Deciding again about the same pair on the same rows gives the decision that was made then.

    Raises
    ------
    BundleError
        The challenger is damaged.
    EvaluationError, ExportedForecastError, PromotionError
        The challenger cannot be asked.
    """
    settings = settings or PromotionSettings()
    home, challenger = Path(home), Path(challenger)
    verify_files(challenger)
    for _ in range(_ROUNDS):
        before = standing(home)
        decision, new = _Court(home, challenger, bars, now, by, checks, settings, before.decisions).decide()
        with deciding(home):
            if standing(home) != before:
                continue  # somebody else decided meanwhile, perhaps a person: this was about what is no more
            if new:
                record_decision(home, decision)
            if decision.verdict == "promoted":
                set_current(home, challenger.name)
        return decision
    raise PromotionError(
        f"each of {_ROUNDS} comparisons was overtaken by another decision",
        where=str(home),
        remedy="let one run decide at a time, then materialise `champion` again",
    )


class _Court:
    """What a decision is made from."""

    def __init__(
        self,
        home: Path,
        challenger: Path,
        bars: Bars,
        now: Clock,
        by: str,
        checks: str,
        settings: PromotionSettings,
        decisions: tuple[Decision, ...],
    ) -> None:
        self.home, self.folder, self.bars, self.now, self.by = home, challenger, bars, now, by
        self.checks, self.settings = checks, settings
        self.challenger = verify_files(challenger)
        self.decisions = decisions
        self.trials = count_trials(home)
        self.champion: Manifest | None = None
        self.version: str | None = None

    def decide(self) -> tuple[Decision, bool]:
        """Return the decision, and whether it is a new one."""
        try:
            current = read_current(self.home)
            self.version = current.name if current else None
            self.champion = verify_files(current) if current else None
        except BundleError as error:
            return self._say(
                "champion_cannot_be_judged", f"the champion cannot be judged: {error.what}"
            ), True
        if current is None or self.champion is None:
            return self._say("no_champion", f"the first model here, and {self.checks}"), True
        if self.champion.model_version == self.challenger.model_version:
            return self._say("is_champion", "it is the champion already"), False
        if self.champion.forecaster_sha256 == self.challenger.forecaster_sha256:
            return self._say("same_forecaster", "it is the same forecaster as the champion"), True
        if self._set_aside():
            words = f"a person chose {self.version} after it had been decided about; klinecast models use goes back"
            return self._say("set_aside_by_hand", words), True
        return self._against(current, self.champion)

    def _against(self, current: Path, champion: Manifest) -> tuple[Decision, bool]:
        if champion.intervals[0] != self.challenger.intervals[0]:
            words = (
                f"the champion was made for {champion.intervals[0]} bars, and forecasts are now made of"
                f" {self.challenger.intervals[0]} bars"
            )
            return self._say("other_interval", words), True
        needed = (*champion.feature_names, champion.volatility_feature)
        if lacking := self.bars.lacking(needed):
            words = f"the champion cannot be judged: no {', '.join(lacking)} among the features any more"
            return self._say("champion_cannot_be_judged", words), True
        if lacking := self.bars.lacking((*self.challenger.feature_names, self.challenger.volatility_feature)):
            raise PromotionError(
                f"the challenger needs features that these bars do not have: {', '.join(lacking)}",
                where=str(self.folder),
                remedy="make the features that it was trained on: klinecast run make_features",
            )
        trials = self._trials()
        level = self._level(trials)
        try:
            predict = onnx_predict_fn(current / JUDGED_FILE)
            found = compare(
                Contestant(champion, predict),
                Contestant(self.challenger, onnx_predict_fn(self.folder / JUDGED_FILE)),
                self.bars,
                max_rows=self.settings.max_rows,
                draws=draws_for(level),
            )
        except ExportedForecastError as error:
            if error.where != str(current / JUDGED_FILE):
                raise
            return self._say(
                "champion_cannot_be_judged", f"the champion cannot be judged: {error.what}"
            ), True
        former = self._made_already(found)
        return (former, False) if former else (self._judged(found, trials, level), True)

    def _judged(self, found: Comparison, trials: int, level: float) -> Decision:
        figures = found.model_dump(mode="json") | {
            "level": self.settings.level,
            "trials": trials,
            "corrected_level": level,
            "correction": "level / ((trials of the last look + 1) (trials + 1))",
        }
        if found.blocks < self.settings.min_blocks:
            words = (
                f"too few rows that neither has seen: {found.rows:,} on {found.bars:,} bars make {found.blocks} blocks"
                f" of {found.block_bars}, {self.settings.min_blocks} are needed"
            )
            return self._say("too_few_rows", words, figures)
        better = found.p_value <= level
        return self._say(
            "better" if better else "not_better", self._in_words(found, trials, level, better), figures
        )

    def _in_words(self, found: Comparison, trials: int, level: float, better: bool) -> str:
        gained = found.difference >= 0
        sign = 1 if gained else -1
        ends = sorted(sign * end for end in found.interval) if found.interval else []
        interval = f" [{ends[0]:+.4f}, {ends[1]:+.4f}]" if ends else ""
        what = (
            f"loss {'lower' if gained else 'higher'}"
            if found.same_question
            else f"gain over the base rate, each on its own question, {'higher' if gained else 'lower'}"
        )
        tried = f"{trials} forecaster{'' if trials == 1 else 's'} tried"
        return (
            f"{what} by {abs(found.difference):.4f}{interval} than that of {self.version} on"
            f" {found.rows:,} rows of {span_days(found, self.bars.interval):.1f} days that neither has seen;"
            f" p {found.p_value:.2g} {'is' if better else 'is not'} within {level:.2g}"
            f" (out of {self.settings.level:g} for all challengers of one champion; {tried})"
        )

    def _trials(self) -> int:
        """Trials since the champion's own first decision, and looks at this pair already taken."""
        own = [d.trials_in_ledger for d in self.decisions if d.challenger == self.version]
        again = [d for d in self._about_this_pair() if d.looked]
        found = max(1, self.trials - (own[0] if own else 0)) + len(again)
        return max(found, self._trials_of_last_look() + 1)

    def _trials_of_last_look(self) -> int:
        """The most trials that any look at this champion has counted; 0 before the first."""
        looks = [d for d in self.decisions if d.champion == self.version and d.looked]
        return max((int(d.figures.get("trials", 1)) for d in looks), default=0)

    def _level(self, trials: int) -> float:
        """What is spent on this look, out of the level that all looks at this champion have together."""
        return self.settings.level / ((self._trials_of_last_look() + 1) * (trials + 1))

    def _about_this_pair(self) -> list[Decision]:
        mine = self.challenger.model_version
        return [d for d in self.decisions if d.challenger == mine and d.champion == self.version]

    def _made_already(self, found: Comparison) -> Decision | None:
        """Return the decision about this pair on these rows, which is not made twice."""
        rows = {"rows": found.rows, "last_open_time": found.last_open_time}
        same = [d for d in self._about_this_pair() if rows.items() <= d.figures.items()]
        return same[-1] if same else None

    def _set_aside(self) -> bool:
        """Whether a person made the champion what it is, after the challenger had been decided about."""
        mine = [i for i, d in enumerate(self.decisions) if d.challenger == self.challenger.model_version]
        made = [
            i
            for i, d in enumerate(self.decisions)
            if d.challenger == self.version and d.verdict == "promoted"
        ]
        return bool(made and self.decisions[made[-1]].by_hand and mine and mine[0] < made[-1])

    def _say(self, reason: Reason, words: str, figures: dict[str, object] | None = None) -> Decision:
        promoted = reason in ("no_champion", "champion_cannot_be_judged", "other_interval", "better")
        return Decision(
            challenger=self.challenger.model_version,
            champion=self.version,
            verdict="promoted" if promoted else "kept",
            reason=reason,
            words=f"{'promoted' if promoted else 'kept'}: {words}",
            at=self.now(),
            by=self.by,
            trials_in_ledger=self.trials,
            figures=figures or {},
        )


def draws_for(level: float) -> int:
    """Return how many resampled data sets a one-sided level asks for."""
    return int(min(_MOST_DRAWS, max(_FEWEST_DRAWS, round(_DRAWS_BEYOND / level))))
