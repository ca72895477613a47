"""Exit codes of the command line; docs/ingestion.md says what a scheduler is to make of them.

2 is the parser's own, for a command that is not written as `--help` says; 130 is `assets.interrupts.INTERRUPTED`.
"""

DONE = 0
FAILED = 1
PARTLY = 3
"""What could be done is done, and kept; something that was asked for did not come, and has been named."""
