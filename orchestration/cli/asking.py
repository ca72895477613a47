"""Asking a person before something is changed for good."""

from __future__ import annotations

import signal
import sys

from assets.errors import AssetError


class UnconfirmedError(AssetError):
    """Nobody has said yes."""


def agreed(question: str, *, command: str, otherwise: str) -> bool:
    """Ask a yes-or-no question in the terminal; Ctrl-C and the end of the input mean no.

    Parameters
    ----------
    question
        What is asked.
    command
        What was called, for whoever is not in a terminal.
    otherwise
        What a no leaves.

    Raises
    ------
    UnconfirmedError
        If there is no terminal to ask in.
    """
    if not sys.stdin.isatty():
        raise UnconfirmedError(
            f"nobody can be asked, since this is no terminal; {otherwise}",
            where=command,
            remedy="run it in a terminal, or add --yes if you are sure",
        )
    # Polars puts a handler of its own in the place of Python's, with which a read goes on after Ctrl-C as if none came.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        print()
        return False
    finally:
        signal.signal(signal.SIGINT, former or signal.default_int_handler)
