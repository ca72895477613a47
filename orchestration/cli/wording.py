"""Words that several commands share."""


def count(number: int, thing: str) -> str:
    """Write a number of things, as in "1 bar" and "1,024 bars"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
