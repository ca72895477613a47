"""What `klinecast models` shows and does."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Column, Table

from assets import model_registry
from assets.home import Home
from assets.model_registry import ModelEntry
from assets.wording import count, utc
from orchestration.cli.asking import agreed
from orchestration.cli.output import console, print_table


def show_models() -> int:
    """List every published version, oldest first."""
    home, out = Home(), console()
    entries = model_registry.models(home)
    if not entries:
        _say(out, "no model has been exported yet: klinecast run train_and_export")
        return 0
    version = Column("version", no_wrap=True)
    columns = ("made", "bars", "horizon", "AUC of the sign", "log loss", "last decision")
    shown = Table("", version, *columns, box=None)
    for entry in entries:
        shown.add_row(*_row(entry))
    print_table(shown)
    _say(out, "* predicts now; choose another one with: klinecast models use VERSION")
    return 0


def show_model(version: str) -> int:
    """Show what a version is and every decision about it; exit code 1 if its files are damaged."""
    home, out = Home(), console()
    entry = model_registry.model(home, version)
    shown = Table(show_header=False, box=None)
    for name, value in _facts(entry).items():
        shown.add_row(name, value)
    out.print(shown)
    for decision in entry.decisions:
        _say(out, f"{utc(decision.at)}  {decision.by}: {decision.words}")
    return 1 if entry.problem else 0


def show_card(version: str) -> int:
    """Print a version's model card, as Markdown."""
    print(model_registry.card(Home(), version), end="")
    return 0


def use_model(version: str, *, sure: bool) -> int:
    """Make predictions with a version once a person has agreed; returns the exit code."""
    home, out = Home(), console()
    entry = model_registry.model(home, version)
    if entry.is_champion:
        _say(out, f"{entry.version} predicts already; nothing was changed")
        return 0
    former = next((other.version for other in model_registry.models(home) if other.is_champion), None)
    _say(out, f"from {home.settings.home}: the next sweep predicts with {entry.version}")
    _say(out, f"{former or 'nothing'} predicts now; it stays in the registry")
    if not sure and not agreed(
        f"predict with {entry.version} from now on?",
        command="klinecast models use",
        otherwise="nothing was changed",
    ):
        _say(out, "nothing was changed")
        return 1
    _say(out, model_registry.choose(home, entry.version).words)
    return 0


def _say(out: Console, text: str) -> None:
    """Print a line as it is: brackets are intervals, and a terminal wraps long lines itself."""
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def _row(entry: ModelEntry) -> list[str]:
    found, manifest = model_registry.scores(entry), entry.manifest
    last = entry.decisions[-1] if entry.decisions else None
    if manifest is None:
        return [
            "*" if entry.is_champion else "",
            entry.version,
            "",
            "",
            "",
            "",
            "",
            f"damaged: {entry.problem}",
        ]
    return [
        "*" if entry.is_champion else "",
        entry.version,
        utc(manifest.created_at),
        " + ".join(manifest.intervals),
        str(manifest.horizon),
        _number(found.get("auc_sign")),
        _number(found.get("log_loss")),
        f"{last.verdict}: {last.reason.replace('_', ' ')}" if last else "",
    ]


def _facts(entry: ModelEntry) -> dict[str, str]:
    facts = {
        "version": entry.version + (" (predicts now)" if entry.is_champion else ""),
        "files": f"damaged: {entry.problem}" if entry.problem else "whole, by their SHA-256",
    }
    manifest = entry.manifest
    if manifest is None:
        return facts
    return facts | {
        "made": f"{utc(manifest.created_at)} by klinecast {manifest.code_version}",
        "reads": f"{manifest.window} bars of {' + '.join(manifest.intervals)},"
        f" {count(len(manifest.feature_names), 'feature')}",
        "predicts": f"{manifest.horizon} bars ahead; quantiles {' '.join(map(str, manifest.quantiles))}",
        "trained on": f"{utc(manifest.training_span.start)} to {utc(manifest.training_span.end)},"
        f" {count(len(manifest.symbols), 'symbol')}",
        "scores": ", ".join(
            f"{name} {_number(value)}"
            for name, value in model_registry.scores(entry).items()
            if _is_number(value)
        ),
        "holds": ", ".join(f"{name} ({file.bytes:,} bytes)" for name, file in manifest.files.items()),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: Any) -> str:
    return f"{value:.4f}" if _is_number(value) else ""
