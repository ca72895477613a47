"""The loops around the step functions: tiles of bars, groups of symbols, and the way of results to memory.

Compiled by Numba together with a program's steps. The functions are made by factories because Numba takes what they
close over (the steps, the lane width, sizes) as constants.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any


class Job(IntEnum):
    """Where each argument lies in the array of int64 that a compiled engine takes."""

    FIRST_GROUP = 0
    END_GROUP = 1
    SYMBOLS = 2
    BARS = 3
    CONSUMED = 4
    TILE = 5  # bars
    BLOCK = 6  # lane groups that share a stage
    STATE = 7
    CLOCK = 8
    OUT = 9
    STAGE = 10  # 0: steps write to OUT themselves
    COLUMNS = 11  # one address per column from here on


OK = -1
"""What a compiled engine returns when it refused nothing; otherwise the row of a bad bar."""

STAGE_PADDING = 16
"""Elements between the planes of a stage, so that they do not share cache sets."""


def make_advance(names: dict[str, Any], settle: int) -> Callable[..., int]:
    """Return the function that takes one lane group over a tile: settled as far as that goes, then general."""
    load, every = names["load"], names["every"]
    settled, general, clean_rows, proper_rows = (
        names[n] for n in ("settled", "general", "clean_rows", "proper_rows")
    )
    enough = float(settle)

    def advance(
        columns: Any, clock: Any, bars: int, state: Any, t: int, n: int, S: int, lane: int,
        out: Any, to: int, row: int, plane: int, k: int,
    ) -> int:  # fmt: skip
        done = 0
        if every(load(state, 0) >= enough):
            done = clean_rows(columns, t, n, S, lane)
            settled(columns, clock, bars, state, t, done, S, lane, out, to, row, plane, k)
        if done < n:
            t, n, to, k = t + done, n - done, to + done * row, k + done
            proper = proper_rows(columns, t, n, S, lane)
            if proper < n:
                return t + proper
            general(columns, clock, bars, state, t, n, S, lane, out, to, row, plane, k)
        return -1

    return advance


def make_flush(names: dict[str, Any], out_bits: int) -> Callable[..., None]:
    """Return the copy of one plane of a stage to its place: whole lines past the caches, the ends through them."""
    misalignment, copy_line, copy_some = (names[n] for n in ("misalignment", "copy_line", "copy_some"))
    line = 512 // out_bits

    def flush(out: Any, to: int, S: int, stage: Any, at: int, across: int, n: int) -> None:
        count = across
        if across == S:  # rows follow each other: one stretch
            count, n = n * S, 1
        for _ in range(n):
            head = min((line - misalignment(out, to)) % line, count)
            if head > 0:
                copy_some(out, to, stage, at, head)
            whole = head + (count - head) // line * line
            for j in range(head, whole, line):
                copy_line(out, to + j, stage, at + j)
            if whole < count:
                copy_some(out, to + whole, stage, at + whole, count - whole)
            to += S
            at += across

    return flush


def make_driver(names: dict[str, Any], features: int, rows: int, out_bits: int) -> Callable[[Any], int]:
    """Return the function that runs a job.

    A tile of bars is walked group by group, so that a group's registers stay in the processor and its rings in the
    first-level cache. Where the number of symbols is no multiple of the width, the last group starts earlier and
    shares symbols with the one before; both write the same bits.

    Feature planes lie megabytes apart, and a store to each would first fetch its line from memory. A long job has a
    stage instead: steps write to that small buffer, and while one tile is computed the lines of the tile before go
    from there to memory.
    """
    integer, doubles, shifted = (names[n] for n in ("integer", "doubles", "shifted"))
    outputs = names["floats"] if out_bits == 32 else doubles
    advance, flush, width = (names[n] for n in ("advance", "flush", "WIDTH"))
    clean_rows, proper_rows = names["clean_rows"], names["proper_rows"]
    (
        first,
        end,
        symbols,
        length,
        consumed,
        tile_of,
        block_of,
        state_of,
        clock_of,
        out_of,
        stage_of,
        columns_of,
    ) = (int(place) for place in Job)
    padding = STAGE_PADDING

    def directly(job: Any) -> int:
        S, T, tile, k = (
            integer(job, symbols),
            integer(job, length),
            integer(job, tile_of),
            integer(job, consumed),
        )
        columns, clock, out = shifted(job, columns_of), doubles(job, clock_of), outputs(job, out_of)
        if T == 1:  # a stream's bar: refuse it before any state has moved
            for group in range(integer(job, first), integer(job, end)):
                lane = min(group * width, S - width)
                if clean_rows(columns, 0, 1, S, lane) < 1 and proper_rows(columns, 0, 1, S, lane) < 1:
                    return 0
        for t in range(0, T, tile):
            for group in range(integer(job, first), integer(job, end)):
                lane = min(group * width, S - width)
                state = shifted(doubles(job, state_of), group * rows * width)
                n = min(tile, T - t)
                bad = advance(columns, clock, T, state, t, n, S, lane, out, t * S + lane, S, T * S, k + t)
                if bad >= 0:
                    return bad
        return -1

    def staged(job: Any, b: int, e: int) -> int:
        S, T, tile, k = (
            integer(job, symbols),
            integer(job, length),
            integer(job, tile_of),
            integer(job, consumed),
        )
        columns, clock, out = shifted(job, columns_of), doubles(job, clock_of), outputs(job, out_of)
        left = min(b * width, S - width)
        across = min((e - 1) * width, S - width) + width - left
        deep = tile * across + padding
        current, before = outputs(job, stage_of), shifted(outputs(job, stage_of), deep * features)
        waiting = 0  # bars of the tile before that are still in its stage
        for t in range(0, T, tile):
            n = min(tile, T - t)
            for group in range(b, e):
                lane = min(group * width, S - width)
                state = shifted(doubles(job, state_of), group * rows * width)
                bad = advance(
                    columns, clock, T, state, t, n, S, lane, current, lane - left, across, deep, k + t
                )
                if bad >= 0:
                    return bad
                if waiting > 0:
                    done, share = group - b, e - b
                    for f in range(features * done // share, features * (done + 1) // share):
                        flush(out, (f * T + t - waiting) * S + left, S, before, f * deep, across, waiting)
            current, before = before, current
            waiting = n
        for f in range(features):
            flush(out, (f * T + T - waiting) * S + left, S, before, f * deep, across, waiting)
        return -1

    compiled = names["compile"]
    directly, staged = compiled(directly), compiled(staged)

    def drive(job: Any) -> int:
        if integer(job, stage_of) == 0:
            return directly(job)
        for b in range(integer(job, first), integer(job, end), integer(job, block_of)):
            bad = staged(job, b, min(b + integer(job, block_of), integer(job, end)))
            if bad >= 0:
                return bad
        return -1

    return drive
