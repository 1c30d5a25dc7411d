"""A layer or a language model as an ONNX graph, which other runtimes run to the same numbers.

    x (batch, time, D) or ids (batch, time)
    → [embedding: Gather, or one-hot]
    → time first: Transpose → RNN | LSTM | GRU, one node per layer → join the directions → batch first:
    Transpose → [linear: MatMul, Add]

The graph's inputs are `x` or `ids`, `lengths` where asked for, and where asked for the initial state: `h_0`,
`c_0`, `h_1`, … in the order of the layer's cells. Its outputs are `outputs` or `logits`, and the final states
`h_n_0`, `c_n_0`, …
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..cells import GRUCell, LSTMCell, RNNCell
from ..language_model import LanguageModel
from ..layers import Recurrent
from .arrays import Array
from .onnx import to_onnx

OPSET, IR_VERSION = 17, 8
ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu"}


class _Graph:
    """Nodes and constants as they come; every method returns the name of what it made."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def node(self, op: str, inputs: list[str], output: str, *more: str, **attributes: Any) -> str:
        """A node with one output, or more."""
        outputs = [output, *more]
        make_node = self.library.helper.make_node
        self.nodes.append(make_node(op, inputs, outputs, name=f"node_{output}", **attributes))
        return output

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """An array in the file; floats are float32 there."""
        array = np.ascontiguousarray(np.asarray(value, dtype))
        self.constants.append(self.library.numpy_helper.from_array(array.reshape(np.shape(value)), name))
        return name

    def input(self, name: str, shape: list[Any], dtype: str = "FLOAT") -> str:
        self.inputs.append(self._value(name, shape, dtype))
        return name

    def output(self, name: str, shape: list[Any]) -> None:
        self.outputs.append(self._value(name, shape, "FLOAT"))

    def _value(self, name: str, shape: list[Any], dtype: str) -> Any:
        element = getattr(self.library.TensorProto, dtype)
        return self.library.helper.make_tensor_value_info(name, element, shape)


def export_onnx(model: Recurrent | LanguageModel, path: str | os.PathLike[str], *, lengths: bool = False,
                state: bool = False) -> None:
    """Write a layer or a language model, as it is in evaluation, to an ONNX file.

    Args:
        model: a layer or a language model. Its weights are written as float32, which is what runtimes compute
            in.
        path: the file; one that is there is replaced.
        lengths: the graph takes `lengths` (batch,) of int32, for sequences padded at the end.
        state: the graph takes the initial state; otherwise it is zeros.

    Raises:
        ImportError: onnx is not installed.
        TypeError: it is something else.
        ValueError: ONNX has no operator for it (layer normalisation, projection, a regulariser that does not
            vanish in evaluation), or no plain way to write an option.
    """
    onnx = _library()
    if isinstance(model, LanguageModel):
        layer = model.recurrent
    elif isinstance(model, Recurrent):
        layer = model
    else:
        raise TypeError("what can be exported is a recurrent layer or a LanguageModel, not a "
                        f"{type(model).__name__}.")
    graph = _Graph(onnx)
    if isinstance(model, LanguageModel):
        x = _symbols(graph, model)
    else:
        x = graph.input("x", ["batch", "time", layer.input_size])
    y = _recurrent(graph, layer, x, lengths, state, "outputs")
    if isinstance(model, LanguageModel):
        _logits(graph, model, y)
    parts = onnx.helper.make_graph(graph.nodes, type(model).__name__, graph.inputs, graph.outputs,
                                   graph.constants)
    proto = onnx.helper.make_model(parts, producer_name="minigrad", ir_version=IR_VERSION,
                                   opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, os.fspath(path))


# ------------------------------------------------------------------------------------------------------------
# The layers
# ------------------------------------------------------------------------------------------------------------


def _recurrent(graph: _Graph, layer: Recurrent, x: str, lengths: bool, state: bool, result: str) -> str:
    """All layers, from x (batch, time, D) to `result`."""
    _refuse(layer, lengths, state)
    ends = graph.input("lengths", ["batch"], "INT32") if lengths else ""
    initial = _initial(graph, layer) if state else {}
    x = graph.node("Transpose", [x], "time_first", perm=[1, 0, 2])
    for k, weights in enumerate(to_onnx(layer)):
        x = _layer(graph, layer, k, x, weights, ends, initial)
        x = _merged(graph, layer, k, x)
    return _finished(graph, layer, x, ends, result)


def _refuse(layer: Recurrent, lengths: bool, state: bool) -> None:
    changed = [repr(scheme) for scheme in layer.schemes for cell in layer.cells
               if any(mask.p > 0 and mask.mean != 1 for mask in scheme.masks(cell, True, True).values())]
    if changed:
        raise ValueError(f"{changed[0]} changes a cell in evaluation too, and ONNX has no such cell.")
    if layer.initial and not state:
        raise ValueError("the initial state is learned: export with state=True, and give it to the graph.")
    if layer.bidirectional and layer.merge is None:
        raise ValueError("export a layer whose directions are merged: with merge=None there are two outputs.")
    if lengths and layer.return_sequences and layer.past_end == "repeat":
        raise ValueError("with lengths, ONNX' operators give zeros past the end: past_end='repeat' cannot be "
                         "exported.")


def _initial(graph: _Graph, layer: Recurrent) -> dict[str, list[str]]:
    """Inputs for the initial state, one for each cell: their names for each of h and c."""
    names: dict[str, list[str]] = {field: [] for field in layer.cells[0].State._fields}
    for k, cell in enumerate(layer.cells):
        for field in names:
            names[field].append(graph.input(f"{field}_{k}", ["batch", cell.hidden_size]))
    return names


def _layer(graph: _Graph, layer: Recurrent, k: int, x: str, weights: dict[str, Array], ends: str,
           initial: dict[str, list[str]]) -> str:
    """One node: x (time, batch, D) to its output (time, directions, batch, H)."""
    d = 1 + layer.bidirectional
    cell = layer.cells[d * k]
    at: dict[str, Any] = {"hidden_size": cell.hidden_size,
                          "direction": "bidirectional" if d == 2 else "forward"}
    if isinstance(cell, LSTMCell):
        op, at["input_forget"] = "LSTM", int(cell.coupled)
    elif isinstance(cell, GRUCell):
        op, at["linear_before_reset"] = "GRU", int(cell.reset_after)
    elif isinstance(cell, RNNCell):
        op, at["activations"] = "RNN", [ACTIVATIONS[cell.nonlinearity]] * d
    else:
        raise ValueError(f"ONNX has no operator for a {type(cell).__name__}.")
    inputs = [x, *(graph.constant(f"{n}{k}", weights[n]) for n in "WR"),
              graph.constant(f"B{k}", weights["B"]) if "B" in weights else "", ends]
    fields = cell.State._fields
    for field in fields:
        if initial:
            rows = [graph.node("Unsqueeze", [name, _axes(graph, 0)], f"{name}_row")
                    for name in initial[field][d * k:d * k + d]]
            inputs.append(graph.node("Concat", rows, f"{field}_of_layer_{k}", axis=0))
        else:
            inputs.append("")
    if "P" in weights:
        inputs.append(graph.constant(f"P{k}", weights["P"]))
    while not inputs[-1]:
        inputs.pop()
    y = graph.node(op, inputs, f"Y{k}", *(f"Y{k}_{field}" for field in fields), **at)
    for field in fields:
        split = [f"{field}_n_{d * k + j}" for j in range(d)]
        for j, name in enumerate(split):
            index = graph.constant(f"index_{name}", j, np.int64)
            graph.node("Gather", [f"Y{k}_{field}", index], name, axis=0)
            graph.output(name, ["batch", cell.hidden_size])
    return y


def _merged(graph: _Graph, layer: Recurrent, k: int, y: str) -> str:
    """The directions of y (time, directions, batch, H) as one: (time, batch, width)."""
    if not layer.bidirectional:
        return graph.node("Squeeze", [y, _axes(graph, 1)], f"layer_{k}")
    H = layer.cells[0].output_size
    if layer.merge == "concat":
        together = graph.node("Transpose", [y], f"side_by_side_{k}", perm=[0, 2, 1, 3])
        shape = graph.constant(f"shape_{k}", [0, 0, 2 * H], np.int64)
        return graph.node("Reshape", [together, shape], f"layer_{k}")
    if layer.merge == "mul":
        return graph.node("ReduceProd", [y], f"layer_{k}", axes=[1], keepdims=0)
    if layer.merge == "average":
        return graph.node("ReduceMean", [y], f"layer_{k}", axes=[1], keepdims=0)
    return graph.node("ReduceSum", [y, _axes(graph, 1)], f"layer_{k}", keepdims=0)


def _finished(graph: _Graph, layer: Recurrent, y: str, ends: str, result: str) -> str:
    """y (time, batch, width) as `result`: (batch, time, width), or of the last step only (batch, width)."""
    wide = layer.output_size
    if layer.return_sequences:
        graph.output(result, ["batch", "time", wide])
        return graph.node("Transpose", [y], result, perm=[1, 0, 2])
    graph.output(result, ["batch", wide])
    if not ends:
        return graph.node("Gather", [y, graph.constant("last", -1, np.int64)], result, axis=0)
    batch_first = graph.node("Transpose", [y], "batch_first", perm=[1, 0, 2])
    long = graph.node("Cast", [ends], "lengths_64", to=graph.library.TensorProto.INT64)
    last = graph.node("Sub", [long, graph.constant("one", 1, np.int64)], "last")
    index = graph.node("Unsqueeze", [last, _axes(graph, 1)], "last_index")
    return graph.node("GatherND", [batch_first, index], result, batch_dims=1)


def _axes(graph: _Graph, axis: int) -> str:
    """A constant with one axis, made once."""
    name = f"axes_{axis}"
    return name if any(c.name == name for c in graph.constants) else graph.constant(name, [axis], np.int64)


# ------------------------------------------------------------------------------------------------------------
# What a language model has around them
# ------------------------------------------------------------------------------------------------------------


def _symbols(graph: _Graph, model: LanguageModel) -> str:
    """Ids (batch, time) as vectors."""
    ids = graph.input("ids", ["batch", "time"], "INT64")
    table = np.eye(model.symbols) if model.embedding is None else model.embedding.weight.data
    return graph.node("Gather", [graph.constant("embedding", table), ids], "x", axis=0)


def _logits(graph: _Graph, model: LanguageModel, h: str) -> None:
    """Hidden states as logits."""
    graph.outputs = [o for o in graph.outputs if o.name != h]
    if model.output is None:
        assert model.embedding is not None and model.output_bias is not None
        weight, bias = model.embedding.weight.data.T, model.output_bias.data
    else:
        assert model.output.bias is not None
        weight, bias = model.output.weight.data, model.output.bias.data
    product = graph.node("MatMul", [h, graph.constant("output_weight", weight)], "product")
    graph.node("Add", [product, graph.constant("output_bias", bias)], "logits")
    graph.outputs.insert(0, graph._value("logits", ["batch", "time", model.symbols], "FLOAT"))


def _library() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ImportError("exporting needs the package onnx: pip install 'minigrad-rnn[onnx]'") from error
    return onnx
