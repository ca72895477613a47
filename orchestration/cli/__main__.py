"""`python -m orchestration.cli`, for a process that has no klinecast command on its path."""

from orchestration.cli.main import main

main()
