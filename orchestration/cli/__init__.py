"""The command line: `klinecast --help`."""

from orchestration.cli.main import main

__all__ = ["main"]
