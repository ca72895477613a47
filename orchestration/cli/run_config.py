"""The run config of a job, from a YAML file: read, held against what the job takes, and what is wrong told in words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

import yaml

from assets.errors import GivenValueError

if TYPE_CHECKING:
    from dagster import DagsterInvalidConfigError
    from dagster._config import EvaluationError
    from pydantic.fields import FieldInfo

Fields = Mapping[str, Mapping[str, "FieldInfo"]]
"""What each step of a job takes: step, key, and its default and bounds."""

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", list: "a list"}
_ANY_JOB = "ops: {training_set: {config: {window: 32}}}"


def read_config(path: Path) -> dict[str, Any]:
    """Read a run config from a YAML file.

    Raises
    ------
    GivenValueError
        If it cannot be read, is no YAML, or holds no keys.
    """
    try:
        found = yaml.safe_load(path.read_text())
    except OSError as error:
        what, remedy = f"the run config cannot be read: {error.strerror}", "give the path of a YAML file"
    except UnicodeDecodeError:
        what, remedy = "the run config is no text", "give the path of a YAML file, in UTF-8"
    except yaml.YAMLError as error:
        what, remedy = f"the run config is no YAML: {_yaml_problem(error)}", "mend the file"
    else:
        if isinstance(found, dict):
            return _with_text_keys(found)
        what, remedy = "the run config holds no keys", f"write it like {_ANY_JOB}; see docs/forecaster.md"
    raise GivenValueError(what, where=str(path), remedy=remedy)


def _with_text_keys(found: Any) -> Any:
    """Return what YAML holds with every key as text: it reads 1 and yes as a number and a truth."""
    if isinstance(found, dict):
        return {str(key): _with_text_keys(value) for key, value in found.items()}
    return [_with_text_keys(value) for value in found] if isinstance(found, list) else found


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error).splitlines()[0]
    return f"{getattr(error, 'problem', None) or 'it ends early'}, line {mark.line + 1}, column {mark.column + 1}"


def require_fitting(job: str, definition: Any, config: dict[str, Any]) -> None:
    """Refuse a run config that the job cannot take, before anything runs.

    Parameters
    ----------
    job
        Its name.
    definition
        What Dagster makes of it.
    config
        The run config.

    Raises
    ------
    GivenValueError
        With the key that is wrong, where it stands, the keys that there are and an example.
    """
    from dagster import DagsterInvalidConfigError, validate_run_config

    fields = _fields_of(definition)
    try:
        validate_run_config(definition, config)
    except DagsterInvalidConfigError as error:
        raise _explained(job, fields, error) from None
    for step, given in (config.get("ops") or {}).items():
        settings = (given or {}).get("config")
        if step in fields:
            _require_bounds(job, step, definition, settings or {})
        elif settings:  # Dagster takes anything for a step that takes nothing
            raise GivenValueError(
                f"{step} takes no settings",
                where=f"ops.{step}.config in the run config of {job}",
                remedy=f"leave it out; steps that take some: {', '.join(fields) or 'none'}",
            )


def _fields_of(definition: Any) -> Fields:
    """Return what each step of a job takes; a step that takes nothing is left out."""
    bodies = {node.name: node.definition.compute_fn for node in definition.graph.nodes}
    return {
        name: body.get_config_arg().annotation.model_fields
        for name, body in sorted(bodies.items())
        if body.has_config_arg()
    }


def _explained(job: str, fields: Fields, error: DagsterInvalidConfigError) -> GivenValueError:
    """Say in words what Dagster has found; it finds all mistakes, and the first one is told."""
    first = error.errors[0]
    path = tuple(map(str, first.stack.levels))
    unknown = [name for each in error.errors for name in _unknown_names(each)]
    others = [each for each in error.errors if not _unknown_names(each)]
    more = len(unknown) + len(others) - 1
    names = _unknown_names(first)
    what, remedy = _unknown_key(names[0], path, fields) if names else _wrong_value(first, path, fields)
    return GivenValueError(
        what + (f" (and {more} more that {'is' if more == 1 else 'are'} wrong)" if more else ""),
        where=f"{'.'.join(path) or 'the top'} in the run config of {job}",
        remedy=remedy,
    )


def _unknown_names(error: EvaluationError) -> list[str]:
    """Return the keys that one of Dagster's errors is about, none where it is about a value."""
    data = error.error_data
    one = getattr(data, "field_name", None)
    return [str(name) for name in ([one] if one is not None else getattr(data, "field_names", ()))]


def _unknown_key(name: str, path: tuple[str, ...], fields: Fields) -> tuple[str, str]:
    """Say what a key that nothing takes should have been, and what to do."""
    step = path[1] if len(path) > 1 else ""
    owner = _owner(name, fields, near=not path)
    if path == ("ops",):
        nearest = _nearest(name, fields)
        return f"this job has no step {name!r} that takes settings", (
            f"there is, nearest first: {', '.join(nearest)}; for example {_example(nearest[0], '', fields)}"
        )
    if step in fields and path[2:] == ("config",):
        nearest = _nearest(name, fields[step])
        remedy = (
            f"there is, nearest first: {', '.join(nearest)}; for example {_example(step, nearest[0], fields)}"
        )
        return f"{step} takes no {name!r}", f"write {_example(*owner, fields)}" if owner else remedy
    if step in fields:
        key = name if name in fields[step] else ""
        return f"{name!r} does not belong to {step} itself, but under its config", (
            f"write {_example(step, key, fields)}"
        )
    if not path:
        example = _example(*owner, fields) if owner else _any_example(fields)
        return (
            f"a run config has no {name!r}",
            f"begin with ops, then the step, then config: for example {example}",
        )
    return f"nothing takes {name!r} at this place", "leave it out"


def _owner(name: str, fields: Fields, *, near: bool) -> tuple[str, str] | None:
    """Return the step and key that a name stands for, also a misspelt one where `near`; None where there is none."""
    keys = {key: step for step, taken in reversed(list(fields.items())) for key in taken}
    found = difflib.get_close_matches(name, keys, n=1, cutoff=0.75 if near else 1.0)
    return (keys[found[0]], found[0]) if found else None


def _wrong_value(first: EvaluationError, path: tuple[str, ...], fields: Fields) -> tuple[str, str]:
    """Say what a value of the wrong kind should have been, and what to do."""
    if len(path) >= 4 and path[0] == "ops" and path[1] in fields and path[3] in fields[path[1]]:
        step, key = path[1], path[3]
        given = getattr(first.error_data, "value_rep", None)
        kind = _kind(fields[step][key].annotation)
        return (
            f"{key} of {step} {f'cannot be {given}: it' if given else ''} takes {kind}".replace("  ", " "),
            f"for example {_example(step, key, fields)}",
        )
    step = path[1] if len(path) > 1 and path[1] in fields else ""
    example = _example(step, "", fields) if step else _any_example(fields)
    return f"keys and values must stand under {path[-1] if path else 'it'}", f"write it like {example}"


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return all of `known`, the likest first."""
    alike = difflib.SequenceMatcher(b=name.lower())

    def ratio(other: str) -> float:
        alike.set_seq1(other.lower())
        return alike.ratio()

    return sorted(known, key=lambda other: (-ratio(other), other))


def _kind(annotation: Any) -> str:
    """Say what a key takes."""
    alternatives = [kind for kind in get_args(annotation) if kind is not type(None)]
    if type(None) in get_args(annotation) and alternatives:
        return f"{_kind(alternatives[0])}, or null"
    if get_origin(annotation) is list:
        return f"a list, each entry {_kind(alternatives[0])}"
    return _KINDS.get(annotation, "another kind of value")


def _any_example(fields: Fields) -> str:
    return _example(next(iter(fields)), "", fields) if fields else "{}"


def _example(step: str, key: str, fields: Fields) -> str:
    """Return a run config that sets one key of a step, or its first, to what it is by default: YAML in one line."""
    taken = fields[step]
    key = key or next(iter(taken))
    value = taken[key].get_default()
    if value == []:
        value = ["..."]
    elif value is None:
        value = "..." if _kind(taken[key].annotation).startswith(_KINDS[str]) else 1
    content: dict[str, Any] = {"ops": {step: {"config": {key: value}}}}
    return yaml.safe_dump(content, default_flow_style=True, width=1_000).strip()[1:-1]


def _require_bounds(job: str, step: str, definition: Any, settings: dict[str, Any]) -> None:
    """Refuse values out of bounds, or at odds with each other: Dagster itself looks when their step is reached."""
    from pydantic import ValidationError

    bodies = {node.name: node.definition.compute_fn for node in definition.graph.nodes}
    form = bodies[step].get_config_arg().annotation
    where = f"ops.{step}.config in the run config of {job}"
    try:
        filled = form(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        raise GivenValueError(
            f"{'.'.join(map(str, first['loc'])) or 'a value'} cannot be {first['input']!r}: {first['msg']}",
            where=where,
            remedy=f"mend it; for example {_example(step, key, {step: form.model_fields})}",
        ) from None
    if hasattr(filled, "check"):
        try:
            filled.check()
        except GivenValueError as error:
            raise GivenValueError(error.what, where=where, remedy=error.remedy) from None
