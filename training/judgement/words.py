"""A judgement in sentences, as plain where the forecaster is not better as where it is."""

from __future__ import annotations

from datetime import UTC, datetime

from training.block_interval import LEAST_BLOCKS, too_short
from training.judgement.forecasts import FORECASTER
from training.judgement.names import FORECASTS, SCORES, number, span
from training.judgement.results import Figure, Judgement, Verdict

TOO_GOOD = 0.55
"""AUC of the sign above which a leak is the likelier reason; published figures on 15m to 1h bars are 0.52 to 0.53."""


def in_words(judgement: Judgement) -> list[str]:
    """What a judgement says, most important first; one sentence or two each."""
    lines = [_what(judgement), _chance(judgement)]
    lines += [_against(judgement, name) for name in judgement.scores if name != FORECASTER]
    lines += [f"Left out: the {_of(name)}. {why}." for name, why in judgement.left_out.items()]
    lines += [_calibration(judgement), _trading(judgement), _caution(judgement)]
    return [line for line in lines if line]


def headline(judgement: Judgement) -> str:
    """The judgement in one line."""
    told = {verdict: sum(d.verdict == verdict for d in judgement.differences) for verdict in _VERDICTS}
    auc = judgement.scores[FORECASTER].get("auc_sign")
    skill = f"AUC of the sign {_figure('auc_sign', auc)} on {judgement.rows:,} unseen windows" if auc else ""
    counts = f"{told['better']} better, {told['worse']} worse, {told['cannot be told']} cannot be told"
    short = f"; {why}" if (why := _too_short(judgement)) else ""
    compared = f"{len(judgement.differences)} comparisons with baselines: {counts}{short}"
    return f"the recipe, {_trained(judgement)}: {skill}; {compared}"


def _trained(judgement: Judgement) -> str:
    """How much each fold's forecaster was trained: that, and not a published model, is what is judged."""
    config = judgement.config
    windows = max(fold.spans["train"].rows for fold in judgement.folds)
    epochs = f"{config.epochs} epoch{'s' * (config.epochs != 1)} at most"
    return f"trained anew in each fold on {windows:,} windows, {epochs}"


_VERDICTS: tuple[Verdict, ...] = ("better", "worse", "cannot be told")


def _too_short(judgement: Judgement) -> str:
    """Why there are no intervals; empty where there are."""
    if judgement.blocks is None or judgement.blocks >= LEAST_BLOCKS:
        return ""
    return too_short(judgement.blocks, judgement.settings.block_bars(judgement.config.horizon))


def _what(judgement: Judgement) -> str:
    config = judgement.config
    first, last = (_day(time) for time in (judgement.first_time, judgement.last_time))
    return (
        f"What is judged is the recipe, {_trained(judgement)}; a published model may have been trained on more."
        f" Judged on {judgement.rows:,} unseen windows of {len(judgement.symbol_names)} symbols,"
        f" {judgement.interval} bars from {first} to {last}, {config.horizon} bars ahead, in"
        f" {len(judgement.folds)} walk-forward folds. {_brackets(judgement)} Differences are"
        f" positive where they are in favour of the {_of(FORECASTER)}."
    )


def _brackets(judgement: Judgement) -> str:
    settings = judgement.settings
    if why := _too_short(judgement):
        return f"Nothing is called better or worse: {why}."
    return (
        f"Brackets are {settings.level:.0%} intervals from {settings.draws:,} draws of blocks of"
        f" {settings.block_bars(judgement.config.horizon)} bars; a fold or symbol with fewer than {LEAST_BLOCKS}"
        " blocks has none."
    )


def _chance(judgement: Judgement) -> str:
    auc = judgement.scores[FORECASTER].get("auc_sign")
    if auc is not None and (auc.low is None or auc.high is None) and (why := _too_short(judgement)):
        return f"The AUC of the sign is {_figure('auc_sign', auc)}: it cannot be told from chance, 0.5, since {why}."
    if auc is None or auc.low is None or auc.high is None:
        return "Whether the sign is told better than by chance cannot be judged: all rows moved the same way."
    told = f"The AUC of the sign is {_figure('auc_sign', auc)}: "
    if auc.high < 0.5:
        return told + "worse than chance."
    if auc.low <= 0.5:
        return told + "it cannot be told from chance, 0.5."
    told += "better than chance, 0.5."
    if auc.value > TOO_GOOD:
        told += (
            f" On a real market that is more than is believed, published figures being 0.52 to 0.53: above"
            f" {TOO_GOOD} look for a leak first."
        )
    return told


def _against(judgement: Judgement, baseline: str) -> str:
    found = [d for d in judgement.differences if d.baseline == baseline]
    if not found:
        return ""
    parts = []
    for verdict in _VERDICTS:
        mine = [d for d in found if d.verdict == verdict]
        if mine:
            listed = ", ".join(f"{SCORES[d.score]} {_figure(d.score, d.figure, signed=True)}" for d in mine)
            how = "it cannot be told" if verdict == "cannot be told" else f"it is {verdict}"
            parts.append(f"{how} by {listed}")
    return f"Against {_of(baseline)}: {'; '.join(parts)}."


def _calibration(judgement: Judgement) -> str:
    scores, levels = judgement.scores[FORECASTER], judgement.config.quantiles
    parts = []
    if "ece" in scores:
        parts.append(f"probabilities are off by {_figure('ece', scores['ece'])} in the mean")
    if "coverage" in scores:
        nominal = levels[-1] - levels[0]
        parts.append(f"{_figure('coverage', scores['coverage'])} of the returns lie between its outer quantiles,"
                     f" which should hold {nominal:.2f}")  # fmt: skip
    return f"Calibration: {'; '.join(parts)}." if parts else ""


def _trading(judgement: Judgement) -> str:
    scores, settings = judgement.scores[FORECASTER], judgement.settings
    if "net_bps" not in scores:
        return ""
    net = scores["net_bps"]
    if net.low is not None and net.low > 0:
        verdict = "it earns"
    elif net.high is not None and net.high < 0:
        verdict = "it loses"
    else:
        verdict = "whether it earns cannot be told"
    return (
        f"Acting on the surest {settings.trade_share:.0%} of bars with {settings.fee_bps:g} bps of fees and"
        f" {settings.slippage_bps:g} bps of slippage a side: gross {_figure('gross_bps', scores['gross_bps'])}, net"
        f" {_figure('net_bps', net)} bps of the capital per holding period of {judgement.config.horizon} bars,"
        f" turnover {_figure('turnover', scores['turnover'])} of the capital; {verdict}."
    )


def _caution(judgement: Judgement) -> str:
    count = 0 if _too_short(judgement) else len(judgement.differences)
    chance = count * (1 - judgement.settings.level)
    return (
        f"Of {count} comparisons about {chance:.0f} would come out as better or worse by chance alone."
        if count
        else ""
    )


def _of(name: str) -> str:
    return FORECASTS.get(name, name)


def _figure(score: str, figure: Figure, *, signed: bool = False) -> str:
    interval = span(score, figure.low, figure.high, signed=signed)
    return f"{number(score, figure.value, signed=signed)} {interval}".strip()


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).date().isoformat()
