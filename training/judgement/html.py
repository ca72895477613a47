"""A judgement as one HTML page that needs nothing else: words first, then figures, then where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from market.wording import utc
from training.judgement import svg
from training.judgement.forecasts import FORECASTER
from training.judgement.names import FORECASTS, SCORES, number, span
from training.judgement.results import About, Difference, Figure, Judgement, Scores
from training.judgement.scoring import COMPARED
from training.judgement.words import headline, in_words

_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;color:#1f2933;background:#f5f7fa;margin:0}
main{max-width:1320px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:34px 0 8px}p,li{max-width:1040px}
.lead{color:#52606d;margin:0 0 18px}.note{color:#52606d;font-size:13px;margin:6px 0 10px}
section{background:#fff;border:1px solid #e4e7eb;border-radius:8px;padding:4px 20px 18px;margin:16px 0}
section>h2{margin-top:16px}ul{padding-left:20px;margin:8px 0}li{margin:5px 0}
dl{display:flex;flex-wrap:wrap;gap:4px 28px;margin:0 0 14px}dt{color:#52606d;font-size:13px}dd{margin:0}
.warn{background:#fff3c4;border:1px solid #f7c948;border-radius:8px;padding:8px 14px}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
h3{font-size:15px;margin:18px 0 4px}
th,td{padding:5px 8px;text-align:right;border-bottom:1px solid #e4e7eb;white-space:nowrap;vertical-align:top}
th{color:#52606d;font-weight:600;white-space:normal;vertical-align:bottom}
th:first-child,td:first-child{text-align:left;font-weight:600;color:#1f2933}
td small{display:block;color:#7b8794;font-size:11px}tr.own td{background:#eef6fc}
td.better{background:#e3f9e5}td.worse{background:#ffe3e3}td.open{background:#fff}
.plots{display:flex;flex-wrap:wrap;gap:14px}svg{max-width:100%;height:auto}svg text{font-family:inherit}
.tight td,.tight th{padding:5px 4px}.tight small{font-size:10px}
.legend span{padding:1px 8px;border-radius:4px;border:1px solid #e4e7eb;margin-right:6px}
"""


def render_html(judgement: Judgement, about: About | None = None) -> str:
    """Write the report of a judgement: self-contained, without scripts, everything escaped.

    `about` is what it tells at its top besides what the judgement knows itself.
    """
    parts = [
        f"<h1>How good is the forecaster?</h1><p class=lead>{escape(headline(judgement))}</p>",
        _about(judgement, about),
        _section("In words", _list(in_words(judgement))),
        _section("Better, worse, or not to be told", _verdicts(judgement)),
        _section("All scores", _scores(judgement.scores)),
        _section("Calibration", _calibration(judgement)),
        _section("What acting on it would have earned", _trading(judgement)),
        _section("Fold by fold", _folds(judgement)),
        _section("Symbol by symbol", _symbols(judgement)),
        _section("How this was judged", _settings(judgement)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Judgement {escape(judgement.judgement_id)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(part for part in parts if part)}</main></body></html>\n"
    )


def _about(judgement: Judgement, about: About | None) -> str:
    """What this is a judgement of, and of which bars: a report is read long after it was made, and elsewhere."""
    told = {
        "training set": judgement.training_set_id,
        "bars judged": f"{judgement.interval}, opened from {utc(judgement.first_time)} to {utc(judgement.last_time)}",
    }
    if about is None:
        return _facts(told)
    version = about.model_version or "none yet: no forecaster of these settings had been trained"
    told = {"model version": version, **told, "market": about.market, "judged at": utc(about.judged_at)}
    return (f"<p class=warn>{escape(_SIMULATED)}</p>" if about.simulated else "") + _facts(told)


_SIMULATED = (
    "These bars are simulated, by the built-in exchange, which plants a signal in them on purpose: nothing below says"
    " how good a forecaster is on a real market."
)


def _facts(told: Mapping[str, str]) -> str:
    rows = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in told.items())
    return f"<dl>{''.join(rows)}</dl>"


def _verdicts(judgement: Judgement) -> str:
    found = {(d.baseline, d.score): d for d in judgement.differences}
    scores = [name for name in COMPARED if any(d.score == name for d in judgement.differences)]
    rows = [
        f"<tr><td>{_forecast(name)}</td>{''.join(_verdict(found.get((name, s))) for s in scores)}</tr>"
        for name in judgement.scores
        if any(d.baseline == name for d in judgement.differences)
    ]
    legend = (
        '<p class="note legend"><span style="background:#e3f9e5">better</span>'
        '<span style="background:#ffe3e3">worse</span><span>cannot be told</span> Difference between the'
        f" {_forecast(FORECASTER)} and each baseline; positive is in its favour, whichever way the score counts.</p>"
    )
    table = _table(["baseline", *(SCORES[s] for s in scores)], rows)
    return f"{legend}<div class=tight>{table}</div>"


def _verdict(difference: Difference | None) -> str:
    if difference is None:
        return "<td></td>"
    kind = "open" if difference.verdict == "cannot be told" else difference.verdict
    folds = f"{difference.folds_better}/{difference.folds} folds"
    return _cell(difference.score, difference.figure, kind=kind, signed=True, more=folds)


def _scores(scores: Mapping[str, Scores], of: str = "forecast") -> str:
    """All scores that there are, in two tables: of directions and quantiles, and what follows from them."""
    names = [name for name in SCORES if any(name in found for found in scores.values())]
    second = list(SCORES)[list(SCORES).index("rank_ic") :]
    parts = ([name for name in names if name not in second], [name for name in names if name in second])
    return "".join(_score_table(scores, part, of) for part in parts if part)


def _score_table(scores: Mapping[str, Scores], names: Sequence[str], of: str) -> str:
    rows = [
        f"<tr{' class=own' if name == FORECASTER else ''}><td>{_forecast(name)}</td>"
        f"{''.join(_cell(s, found.get(s)) for s in names)}</tr>"
        for name, found in scores.items()
        if any(s in found for s in names)
    ]
    return _table([of, *(SCORES[s] for s in names)], rows)


def _calibration(judgement: Judgement) -> str:
    classes = judgement.reliability.get(FORECASTER, {})
    if not classes:
        return ""
    plots = "".join(svg.reliability(bins, f"P({name})") for name, bins in classes.items())
    note = (
        "How often each class came, over the probability said, in bins of equally many windows."
        " Points on the dashed line are right in the mean."
    )
    return f'<p class=note>{note}</p><div class="plots">{plots}</div>'


def _trading(judgement: Judgement) -> str:
    settings = judgement.settings
    named = [
        (FORECASTS.get(name, name), curve)
        for name, curve in judgement.curves.items()
        if name == FORECASTER or any(curve.value)
    ]
    if not named:
        return ""
    note = (
        f"Long or short in the surest {settings.trade_share:.0%} of bars (threshold from the validation rows),"
        f" held for {judgement.config.horizon} bars, equal capital for each symbol, entered at the close of the"
        f" deciding bar, {settings.fee_bps:g} bps of fees and {settings.slippage_bps:g} bps of slippage on each"
        " side. Sum of net returns over all folds:"
    )
    return f"<p class=note>{escape(note)}</p>{svg.curves(named, 'net return, sum')}"


def _folds(judgement: Judgement) -> str:
    auc = [
        (f"fold {fold.index + 1}", fold.scores[FORECASTER]["auc_sign"])
        for fold in judgement.folds
        if "auc_sign" in fold.scores[FORECASTER]
    ]
    parts = [svg.timeline(judgement.folds)]
    if auc:
        parts.append(svg.intervals(auc, 0.5, "AUC of the sign by fold"))
    for fold in judgement.folds:
        parts.append(f"<h3>Fold {fold.index + 1}</h3>{_scores(fold.scores)}")
        counts = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in fold.counts.items())
        parts.append(f"<p class=note>Bars times symbols: {escape(counts)}.</p>")
    return "".join(parts)


def _symbols(judgement: Judgement) -> str:
    own = {symbol: scores[FORECASTER] for symbol, scores in judgement.symbols.items()}
    auc = [(symbol, scores["auc_sign"]) for symbol, scores in own.items() if "auc_sign" in scores]
    plot = svg.intervals(auc, 0.5, "AUC of the sign by symbol") if auc else ""
    note = f"Scores of the {FORECASTS[FORECASTER]}; those of the baselines are in judgement.json."
    return f"<p class=note>{note}</p>{plot}{_scores(own, 'symbol')}"


def _settings(judgement: Judgement) -> str:
    told = {
        "judgement": judgement.judgement_id,
        "training set": judgement.training_set_id,
        **{f"judgement: {name}": value for name, value in judgement.settings.model_dump().items()},
        **{f"forecaster: {name}": value for name, value in judgement.config.model_dump().items()},
    }
    rows = [
        f"<tr><td>{escape(name.replace('_', ' '))}</td><td>{escape(_plain(value))}</td></tr>"
        for name, value in told.items()
    ]
    seconds = {name: sum(fold.seconds[name] for fold in judgement.folds) for name in judgement.scores}
    rows += [
        f"<tr><td>seconds: {_forecast(name)}</td><td>{value:,.1f}</td></tr>"
        for name, value in seconds.items()
    ]
    return _table(["setting", "value"], rows)


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _cell(score: str, figure: Figure | None, *, kind: str = "", signed: bool = False, more: str = "") -> str:
    if figure is None:
        return "<td></td>"
    small = [text for text in (span(score, figure.low, figure.high, signed=signed), more) if text]
    lines = "".join(f"<small>{escape(text)}</small>" for text in small)
    return f'<td class="{escape(kind)}">{number(score, figure.value, signed=signed)}{lines}</td>'


def _forecast(name: str) -> str:
    return escape(FORECASTS.get(name, name))
