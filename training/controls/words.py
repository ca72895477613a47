"""What the controls of a training run found, in words."""

from __future__ import annotations

from training.controls.run import LEAST_SHARE, WIDE, ControlsReport
from training.controls.verdicts import FoundShare, NoSkill


def in_words(report: ControlsReport) -> dict[str, str]:
    """Say in a sentence what each control found that has been run, by the name of its check."""
    said = {}
    if report.shuffled_labels is not None:
        said["shuffled_labels_give_no_skill"] = "On shuffled labels: " + _no_skill_in_words(
            report.shuffled_labels
        )
    if report.random_walk is not None:
        said["random_walk_gives_no_skill"] = "On a random walk: " + _no_skill_in_words(report.random_walk)
    if (found := report.planted_signal) is not None:
        where = "its own market" if report.planted_market == "own" else "a market simulated for it"
        said["planted_signal_is_found"] = (
            f"{found.share:.0%} of the planted information found on {where}, {_asked(report.least_share)}"
            f" ({found.bits:.4f} of {found.bits_best:.4f} bits a window){_advice(found, report.least_share)}"
        )
    return said


def outcome_in_words(report: ControlsReport | None) -> str:
    """Say whether a forecaster has passed its controls, and where its limit was lowered."""
    if report is None:
        return "its controls have not been run"
    walk, shuffled, planted = report.random_walk, report.shuffled_labels, report.planted_signal
    if walk is None or shuffled is None or planted is None:
        return "its controls have not all been run"
    if not (walk.passed and shuffled.passed and planted.share >= report.least_share):
        return "it has not passed its controls"
    if report.least_share >= LEAST_SHARE:
        return "it has passed its checks"
    passed = "it has passed its checks" if planted.share >= LEAST_SHARE else "one of its checks was let pass"
    return f"{passed}: {planted.share:.0%} of the planted information found, {_asked(report.least_share)}"


def _asked(least_share: float) -> str:
    """Say how much of the planted information was asked for, and where that is less than by default."""
    if least_share == 0:
        return (
            f"and nothing asked for: the limit was turned off by least_share 0 (by default {LEAST_SHARE:g})"
        )
    lowered = f", lowered by least_share from {LEAST_SHARE:.0%}" if least_share < LEAST_SHARE else ""
    return f"at least {least_share:.0%} is asked for{lowered}"


def _advice(found: FoundShare, least_share: float) -> str:
    if found.share < least_share:
        return "; train longer or on a longer history (epochs, max_windows in a file for --config)"
    return "; so it is not shown to learn what can be learned" if found.share < LEAST_SHARE else ""


def _no_skill_in_words(verdict: NoSkill) -> str:
    area, gain = verdict.auc_sign, verdict.log_loss_gain
    level = f"{verdict.level:.2%}".rstrip("0").rstrip(".")
    outcome = (
        "no skill, as it must be" if verdict.passed else "skill where there can be none, so something leaks"
    )
    wide = area.high - area.low > WIDE
    few = "; so few blocks tell little, a longer history would notice more" if wide else ""
    return (
        f"{outcome}. AUC {area.value:.3f} [{area.low:.3f}, {area.high:.3f}], log loss better than the base rate's by"
        f" {gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] nats ({level} intervals, {area.blocks} blocks of"
        f" time){few}"
    )
