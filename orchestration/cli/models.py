"""`klinecast models`: which versions there are, what is known of each, and which one predicts."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="models",
    help="List the published models, look at one, or choose which one predicts.",
    no_args_is_help=True,
    add_completion=False,
)

Version = Annotated[str, typer.Argument(help="A version, or any beginning of it that no other has.")]


@app.command("list")
def list_models() -> None:
    """List every published version, oldest first."""
    from orchestration.cli.model_views import show_models

    raise typer.Exit(show_models())


@app.command("show")
def show(version: Version) -> None:
    """Show what a version is, whether its files are whole, and every decision about it."""
    from orchestration.cli.model_views import show_model

    raise typer.Exit(show_model(version))


@app.command("card")
def card(version: Version) -> None:
    """Print a version's model card, as Markdown."""
    from orchestration.cli.model_views import show_card

    raise typer.Exit(show_card(version))


@app.command("use")
def use(version: Version, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Predict with this version from the next sweep on; this is also how to go back."""
    from orchestration.cli.model_views import use_model

    raise typer.Exit(use_model(version, sure=yes))
