"""Pages that are written from the code: `make docs` writes them, a test holds them against it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from assets.settings import PREFIX, Settings
from orchestration.graph import all_specs, draw_graph

DOCS = Path(__file__).resolve().parent.parent / "docs"


def settings_page() -> str:
    """Return the page that lists every setting."""
    rows = [
        f"| `{PREFIX}{name.upper()}` | {_default(field.get_default())} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(
        [
            "# Settings",
            "",
            "Every setting is an environment variable, or a line of a `.env` file in the folder that klinecast is",
            "started from; the environment wins. A value that cannot be used, and a `KLINECAST_` name that does not",
            "exist, are refused at start. `klinecast settings` shows the values in force.",
            "",
            "| setting | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
            "`KLINECAST_EXCHANGE_TOKEN` is read by the built-in exchange alone: the token that it asks for when it is",
            "bound to an address beyond loopback.",
            "",
        ]
    )


def _default(value: object) -> str:
    if value is None:
        return "unset"
    return f"`{','.join(value) if isinstance(value, tuple) else value}`"


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "graph.svg": lambda: draw_graph(all_specs()),
}


def write_pages(folder: Path = DOCS) -> None:
    """Write every page anew."""
    for name, page in PAGES.items():
        (folder / name).write_text(page())


if __name__ == "__main__":
    write_pages()
