"""Exit codes of the command line; docs/ingestion.md says what a scheduler is to make of them.

130 is `assets.interrupts.INTERRUPTED`.
"""

DONE = 0
FAILED = 1
WRONG = 2
"""The command line, or a value that was given on it, is wrong, and nothing was done; the parser's own code, too."""
PARTLY = 3
"""What could be done is done, and kept; something that was asked for did not come, and has been named."""
