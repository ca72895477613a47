"""An ONNX model without what a converter leaves lying about, the same bytes each time it is converted."""

from __future__ import annotations

import string
from typing import Any

import numpy as np

_LETTERS = string.ascii_letters
_CHARACTERS = string.ascii_letters + string.digits
_TO_THE_END = 1_000_000_000


def simplify(model: Any) -> None:
    """Take out operators that do nothing; what they fed on disappears with `canonical`."""
    from onnx import numpy_helper

    graph = model.graph
    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    maker = {output: node for node in graph.node for output in node.output}
    same: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Slice" and _takes_all(node, constants):
            same[node.output[0]] = node.input[0]
        elif node.op_type == "ConstantOfShape" and _only_chosen(node, graph):
            _scalar_of(node, graph)
        elif node.op_type == "LSTM":
            while len(node.input) > 5 and _is_zero(node.input[-1], maker, constants):
                del node.input[-1]  # an initial state of zeros is what an LSTM begins with anyway
            while node.input and not node.input[-1]:
                del node.input[-1]
    for node in graph.node:
        node.input[:] = [same.get(value, value) for value in node.input]


def _takes_all(node: Any, constants: dict[str, np.ndarray]) -> bool:
    start, end = (constants.get(name) for name in node.input[1:3])
    step = constants.get(node.input[4]) if len(node.input) > 4 else np.array([1])
    if start is None or end is None or step is None:
        return False
    return bool((start == 0).all() and (end >= _TO_THE_END).all() and (step == 1).all())


def _only_chosen(node: Any, graph: Any) -> bool:
    """All that is made of it is one of the two sides of a Where, which spreads a single number as well."""
    users = [user for user in graph.node if node.output[0] in user.input]
    return all(user.op_type == "Where" and user.input[0] != node.output[0] for user in users)


def _scalar_of(node: Any, graph: Any) -> None:
    from onnx import numpy_helper

    value = numpy_helper.to_array(node.attribute[0].t)
    graph.initializer.append(numpy_helper.from_array(value.reshape(()), f"{node.output[0]}_value"))
    for user in graph.node:
        user.input[:] = [f"{name}_value" if name == node.output[0] else name for name in user.input]


def _is_zero(name: str, maker: dict[str, Any], constants: dict[str, np.ndarray]) -> bool:
    """A constant 0, however it was spread."""
    if name in constants:
        return not constants[name].any()
    node = maker.get(name)
    if node is None or node.op_type not in ("Expand", "Unsqueeze", "Reshape"):
        return not name
    return _is_zero(node.input[0], maker, constants)


def canonical(model: Any) -> None:
    """Order nodes and constants by their use, name values by number and the first axis `batch`.

    The order of tf2onnx differs from run to run; the file must not. And the names of TensorFlow's scopes are a
    quarter of a small INT8 file, and nobody reads them.
    """
    graph = model.graph
    nodes = _by_use(graph)
    boundary = {value.name for value in (*graph.input, *graph.output)}
    number: dict[str, int] = {}

    def name(value: str) -> str:
        if not value or value in boundary:
            return value
        return _short(number.setdefault(value, len(number)))

    for node in nodes:
        for field in ("name", "doc_string") if node.domain else ("name", "doc_string", "domain"):
            node.ClearField(field)  # an empty text that is set takes other bytes than one that is not
        attributes = sorted(
            (attribute for attribute in node.attribute if not _idle(node, attribute)),
            key=lambda attribute: attribute.name,
        )
        node.ClearField("attribute")
        node.attribute.extend(attributes)
        node.input[:] = [name(value) for value in node.input]
        node.output[:] = [name(value) for value in node.output]
    constants = sorted(
        (constant for constant in graph.initializer if constant.name in number),
        key=lambda constant: number[constant.name],
    )
    for constant in constants:
        constant.name = name(constant.name)
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    graph.name, graph.doc_string = "forecaster", ""
    used = {node.domain for node in nodes}
    standard = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def _idle(node: Any, attribute: Any) -> bool:
    """It would matter only if the axes to reduce were not given."""
    return attribute.name == "noop_with_empty_axes" and len(node.input) > 1


def _short(number: int) -> str:
    """The shortest name for a number: `a` to `Z`, then two characters."""
    name = _LETTERS[number % len(_LETTERS)]
    number //= len(_LETTERS)
    while number:
        number -= 1
        name += _CHARACTERS[number % len(_CHARACTERS)]
        number //= len(_CHARACTERS)
    return name


def _by_use(graph: Any) -> list[Any]:
    """Nodes in the order in which the outputs, from the first to the last, come to need them."""
    maker = {output: i for i, node in enumerate(graph.node) for output in node.output}
    order: list[int] = []
    seen: set[int] = set()
    todo = [(maker[value.name], False) for value in reversed(graph.output)]
    while todo:
        i, ready = todo.pop()
        if ready:
            order.append(i)
        elif i not in seen:
            seen.add(i)
            todo.append((i, True))
            todo += [(maker[value], False) for value in reversed(graph.node[i].input) if value in maker]
    return [graph.node[i] for i in order]
