"""Where formulas become features: the `feature` decorator and names with parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from string import Formatter
from typing import Any, NoReturn

from kernels.errors import KernelError, UnknownFeature, place_in
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
        return {name: hints[name].annotation for name in _fields(self.template)}

    @property
    def place(self) -> str:
        """File and line of the formula."""
        code = inspect.unwrap(self.formula).__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What names of this family look like."""
        shape = {int: r"\d+", float: r"\d+(?:\.\d+)?"}
        groups = {name: f"(?P<{name}>{shape[kind]})" for name, kind in self.parameters.items()}
        return re.compile(self.template.format(**groups), re.ASCII)

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
        self._refuse_disorder(name, values)
        try:
            series = self.formula(bar, **values)
        except Exception as error:
            raise self._failed(name, error) from error
        if not isinstance(series, Series) or series.is_mask:
            given = "condition" if isinstance(series, Series) else type(series).__name__
            raise KernelError(
                f"the formula of {name!r} gives a {given}, not one Series of numbers",
                where=self.place,
                remedy="return one Series: where(condition, 1.0, 0.0), or one of those that `recursive` gives",
            )
        return series

    def _refuse_disorder(self, name: str, values: dict[str, Any]) -> None:
        for order, equal in _ORDERS:
            for low, high in pairwise(p for p in order if p in values):
                if values[low] > values[high] or (values[low] == values[high] and not equal):
                    raise UnknownFeature(
                        f"{low} of {name!r} is not below {high}",
                        where=self.template,
                        remedy="give the parameters in their order",
                    )

    def _failed(self, name: str, error: Exception) -> KernelError:
        """Say of which feature, and where in its formula, an error is."""
        place = place_in(inspect.unwrap(self.formula).__code__.co_filename, error)
        if isinstance(error, KernelError):
            where = f"feature {name!r}, {place}: {error.where}"
            return KernelError(error.what, where=where, remedy=error.remedy)
        return KernelError(
            f"the formula of {name!r} fails: {type(error).__name__}: {error}",
            where=place,
            remedy="build it from the blocks of docs/own-features.md; functions of Python and NumPy take no Series",
        )


_LONGEST = 5_000
_ORDERS = ((("fast", "slow"), False), (("short", "medium", "long"), False), (("acceleration", "limit"), True))
"""Parameters that must rise, in families that have them, and whether two may be equal: `macd_26_12` is no MACD."""


def _fields(template: str) -> list[str]:
    """Names in braces."""
    return [name for _, name, _, _ in Formatter().parse(template) if name is not None]


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
        family = Family(template, formula, text, source, heading, value_range, scale_free, tuple(instances))
        _check(family)
        FAMILIES[template] = family
        _changed()
        return formula

    return register


def _check(family: Family) -> None:
    """Refuse a family whose names, parameters or instances do not fit together, or are another's."""

    def refuse(what: str, remedy: str) -> NoReturn:
        raise KernelError(f"feature {family.template!r}: {what}", where=family.place, remedy=remedy)

    template, fields = family.template, _fields(family.template)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", re.sub(r"\{\w+\}", "1", template)):
        refuse("a name like this cannot be used", "use letters, digits, _ and {parameters}")
    given = list(inspect.signature(family.formula).parameters)[1:]
    if sorted(fields) != sorted(given) or len(set(fields)) != len(fields):
        refuse(
            f"the name has parameters {fields}, the formula {given}",
            "give both the same ones, each once, after the formula's first parameter, the bar",
        )
    for name, kind in family.parameters.items():
        if kind not in (int, float):
            refuse(
                f"parameter {name} is not annotated as int or float", f"write `{name}: int` in the formula"
            )
    for values in family.instances:
        if not isinstance(values, tuple) or len(values) != len(fields):
            refuse(
                f"instance {values!r} is no tuple of {len(fields)} values",
                "write it as in instances=((10,),)",
            )
        if list((family.match(family.name(values)) or {}).values()) != list(values):
            refuse(
                f"no name can be made of instance {values!r}",
                "use whole numbers where the parameter is int, and no more than six digits",
            )
    example = _example(family)
    for other in FAMILIES.values():
        if family.pattern.fullmatch(_example(other)) or other.pattern.fullmatch(example):
            refuse(
                f"its names are those of {other.template!r}, which is there already", "choose another name"
            )


@lru_cache(maxsize=4096)
def _example(family: Family) -> str:
    """Name of an instance, listed or not."""
    return re.sub(r"\{\w+\}", "7", family.template)


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
