"""Where formulas become features: the `feature` decorator and names with parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from string import Formatter
from typing import Any

from kernels.errors import KernelError, UnknownFeature
from kernels.series import Bar, Series

Formula = Callable[..., Series]


@dataclass(frozen=True)
class Family:
    """A formula and how its instances are named.

    Attributes
    ----------
    template
        Name with the parameters in braces, e.g. ``macd_hist_{fast}_{slow}_{signal}``.
    formula
        Function of a `Bar` and the parameters, giving a Series.
    text, source
        The formula as people write it, and where it comes from.
    value_range
        Least and greatest value; None = unbounded.
    scale_free
        Unchanged when all prices, or all volumes, are multiplied by a constant.
    instances
        Parameter values of the instances that the catalogue lists.
    """

    template: str
    formula: Formula
    text: str
    source: str
    group: str
    value_range: tuple[float | None, float | None]
    scale_free: bool
    instances: tuple[tuple[float | int, ...], ...]

    @cached_property
    def parameters(self) -> dict[str, type]:
        """Parameter names in the order of the template, each int or float."""
        hints = inspect.signature(self.formula, eval_str=True).parameters
        names = [name for _, name, _, _ in Formatter().parse(self.template) if name]
        return {name: hints[name].annotation for name in names}

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What names of this family look like."""
        shape = {int: r"\d+", float: r"\d+(?:\.\d+)?"}
        groups = {name: f"(?P<{name}>{shape[kind]})" for name, kind in self.parameters.items()}
        return re.compile(self.template.format(**groups))

    def name(self, values: Sequence[float | int]) -> str:
        """Spell out the instance with these parameter values."""
        pairs = zip(self.parameters, values, strict=True)
        return self.template.format(**{name: f"{value:g}" for name, value in pairs})

    def match(self, name: str) -> dict[str, Any] | None:
        """Parameter values of an instance of this family, or None."""
        found = self.pattern.fullmatch(name)
        if not found:
            return None
        return {key: kind(found.group(key)) for key, kind in self.parameters.items()}

    def trace(self, bar: Bar, name: str) -> Series:
        """Build the graph of one instance."""
        values = self.match(name)
        if values is None:
            raise UnknownFeature(
                f"{name!r} is not of the form {self.template!r}",
                where="feature list",
                remedy="correct the name",
            )
        for parameter, value in values.items():
            if not 0 < value <= _LONGEST:
                raise UnknownFeature(
                    f"{parameter} of {name!r} is not between 1 and {_LONGEST}",
                    where=self.template,
                    remedy="choose a shorter window, or compute on bars of a longer interval",
                )
        return self.formula(bar, **values)


_LONGEST = 5_000

FAMILIES: dict[str, Family] = {}
"""All registered families by template."""


def feature(
    template: str,
    *,
    text: str,
    source: str,
    value_range: tuple[float | None, float | None] = (None, None),
    scale_free: bool = False,
    instances: Sequence[tuple[float | int, ...]] = ((),),
    group: str | None = None,
) -> Callable[[Formula], Formula]:
    """Register the decorated formula as a family of features.

    Parameters
    ----------
    template
        Name with parameters in braces; each is a parameter of the formula, annotated int or float.
    text, source
        Formula and origin for the documentation.
    value_range, scale_free, instances
        See `Family`.
    group
        Heading in the documentation; by default the module's name.
    """

    def register(formula: Formula) -> Formula:
        heading = group or formula.__module__.rsplit(".", 1)[-1]
        if template in FAMILIES:
            raise KernelError(
                f"there is a feature {template!r} already",
                where=f"{formula.__module__}.{formula.__qualname__}",
                remedy="choose another name",
            )
        FAMILIES[template] = Family(
            template, formula, text, source, heading, value_range, scale_free, tuple(instances)
        )
        _changed()
        return formula

    return register


def forget(templates: Iterable[str]) -> None:
    """Take families back."""
    for template in list(templates):
        FAMILIES.pop(template, None)
    _changed()


_changes = 0


def _changed() -> None:
    global _changes
    _changes += 1
    find_family.cache_clear()


def changes() -> int:
    """How often families have been registered or taken back: what was built before may be out of date."""
    return _changes


@lru_cache(maxsize=4096)
def find_family(name: str) -> Family:
    """Family that a feature name belongs to.

    Raises
    ------
    UnknownFeature
        No family has such names; the closest ones are listed.
    """
    for family in FAMILIES.values():
        if family.match(name) is not None:
            return family
    stem = re.sub(r"[\d_.]+$", "", name)
    close = sorted(t for t in FAMILIES if stem and stem.split("_")[0] in t)
    raise UnknownFeature(
        f"unknown feature {name!r}",
        where="feature list",
        remedy=f"use a name of the form {', '.join(close or sorted(FAMILIES))}",
    )
