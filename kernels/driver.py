"""The loops around the step functions: tiles of bars, groups of symbols, and the way of results to memory.

Compiled by Numba together with a program's steps. The functions are made by factories because Numba takes what they
close over (the steps, the lane width, sizes) as constants.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

from kernels.generate import LEAD, rows_ahead


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

MOST_ROWS = 64
"""Rows of the next block's state asked for with one bar at most; a short job needs few of them."""


def make_advance(names: dict[str, Any], settle: int, rows: int) -> Callable[..., int]:
    """Return the function that takes one lane group over a tile: settled as far as that goes, then general."""
    load, every, shifted, width = (names[n] for n in ("load", "every", "shifted", "WIDTH"))
    settled, general, clean_rows, proper_rows = (
        names[n] for n in ("settled", "general", "clean_rows", "proper_rows")
    )
    enough, inside = float(settle), rows_ahead(rows)

    def advance(
        columns: Any, clock: Any, bars: int, state: Any, t: int, n: int, S: int, lane: int,
        out: Any, to: int, row: int, plane: int, k: int, ahead: int, coming: Any,
    ) -> int:  # fmt: skip
        done = 0
        if every(load(state, 0) >= enough):
            done = clean_rows(columns, t, n, S, lane)
            settled(columns, clock, bars, state, t, done, S, lane, out, to, row, plane, k, ahead, coming)
        if done < n:
            t, n, to, k = t + done, n - done, to + done * row, k + done
            coming = shifted(coming, done * inside * width)
            proper = proper_rows(columns, t, n, S, lane)
            if proper < n:
                return t + proper
            general(columns, clock, bars, state, t, n, S, lane, out, to, row, plane, k, ahead, coming)
        return -1

    return advance


def make_flush(names: dict[str, Any], out_bits: int) -> Callable[..., None]:
    """Return the copy of one plane of a stage to its place.

    All of it goes past the caches, the torn lines at both ends of a row too, element by element. A store through the
    caches would fetch such a line from memory first, then write it back, once for each of the two neighbours that own
    a part of it: where rows are short, that takes longer than all whole lines together.
    """
    misalignment, copy_line, copy_one = (names[n] for n in ("misalignment", "copy_line", "copy_one"))
    line = 512 // out_bits

    def flush(out: Any, to: int, S: int, stage: Any, at: int, across: int, n: int) -> None:
        count = across
        if across == S:  # rows follow each other: one stretch
            count, n = n * S, 1
        for _ in range(n):
            head = min((line - misalignment(out, to)) % line, count)
            for j in range(head):
                copy_one(out, to + j, stage, at + j)
            whole = head + (count - head) // line * line
            for j in range(head, whole, line):
                copy_line(out, to + j, stage, at + j)
            for j in range(whole, count):
                copy_one(out, to + j, stage, at + j)
            to += S
            at += across

    return flush


def make_driver(names: dict[str, Any], features: int, rows: int, out_bits: int) -> Callable[[Any], int]:
    """Return the function that runs a job.

    A tile of bars is walked group by group, so that a group's registers stay in the processor and its rings in the
    nearest caches. Where the number of symbols is no multiple of the width, the last group starts earlier and shares
    symbols with the one before; both write the same bits.

    Feature planes lie megabytes apart, and a store to each would first fetch its line from memory. A long job has a
    stage instead: steps write a tile to that small buffer, and its lines go from there to memory. The groups that
    share a stage, a block, go through all bars before the next block begins: as few as the second-level cache holds
    together with the stage, because state that is fetched from further away again for every tile costs as much as the
    arithmetic. What comes next is asked for in time, a little with every bar: the inputs of the next tile, and towards
    the block's end the state of the next block.
    """
    integer, doubles, shifted, fetch_ahead = (
        names[n] for n in ("integer", "doubles", "shifted", "fetch_ahead")
    )
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
    padding, lead, most, inside = STAGE_PADDING, LEAD, MOST_ROWS, rows_ahead(rows)

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
                to = t * S + lane
                bad = advance(columns, clock, T, state, t, n, S, lane, out, to, S, T * S, k + t, n * S, state)
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
        stage, states = outputs(job, stage_of), doubles(job, state_of)
        left = min(b * width, S - width)
        across = min((e - 1) * width, S - width) + width - left
        deep = tile * across + padding
        soon, last = max(T - lead, 0), integer(job, end) - 1
        each = min(max((rows + min(T, lead) - 1) // min(T, lead), inside), most)
        for t in range(0, T, tile):
            n = min(tile, T - t)
            ahead = n * S if t + n < T else (e - b) * width - t * S
            for group in range(b, e):
                lane = min(group * width, S - width)
                state = shifted(states, group * rows * width)
                coming = state  # which is here: nothing is asked for
                if t >= soon and e <= last:
                    coming = shifted(states, (min(group + e - b, last) * rows + (t - soon) * each) * width)
                    for line in range(n * inside, n * each):
                        fetch_ahead(coming, line * width)
                bad = advance(
                    columns, clock, T, state, t, n, S, lane,
                    stage, lane - left, across, deep, k + t, ahead, coming,
                )  # fmt: skip
                if bad >= 0:
                    return bad
            for f in range(features):
                flush(out, (f * T + t) * S + left, S, stage, f * deep, across, n)
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
