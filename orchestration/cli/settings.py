"""`klinecast settings`: every setting, its value here and what it means."""

from __future__ import annotations

from rich.table import Column, Table

from assets.settings import PREFIX, Settings, load_settings
from orchestration.cli.output import console


def show_settings() -> int:
    """Show every setting, its value here and what it means; secrets are not shown."""
    settings = load_settings()
    shown = Table(Column("setting", no_wrap=True), box=None)
    for name in ("value here", "meaning"):
        shown.add_column(name, overflow="fold")  # a long address is broken, not cut
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        text = ",".join(value) if isinstance(value, tuple) else "unset" if value is None else str(value)
        shown.add_row(PREFIX + name.upper(), text, field.description)
    console().print(shown)
    return 0
