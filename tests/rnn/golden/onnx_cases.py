"""What onnxruntime gives for ONNX's RNN, LSTM and GRU nodes on fixed inputs, in float32.

`python tests/rnn/golden/onnx_cases.py` writes onnx.npz, so that the comparison runs without onnx and
onnxruntime. The weights are in ONNX's layout, (directions, gates·H, ...), gates i, o, f, c or z, r, h and
peepholes i, o, f.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

B, T, D, H = 3, 5, 4, 6
FILE = Path(__file__).with_name("onnx.npz")
LENGTHS = np.array([3, 5, 1], np.int32)


class Case(NamedTuple):
    op: str
    bidirectional: bool = False
    ragged: bool = False
    peephole: bool = False
    coupled: bool = False
    reset_after: bool = True
    activation: str = "Tanh"

    def __str__(self) -> str:
        marks = {"bi": self.bidirectional, "ragged": self.ragged, "peephole": self.peephole,
                 "coupled": self.coupled, "before": not self.reset_after, "relu": self.activation == "Relu"}
        return "-".join([self.op, *(word for word, on in marks.items() if on)])

    @property
    def directions(self) -> int:
        return 1 + self.bidirectional

    @property
    def gates(self) -> int:
        return {"RNN": 1, "LSTM": 4, "GRU": 3}[self.op]


ALL = [
    Case("RNN"), Case("RNN", activation="Relu"), Case("RNN", True, True),
    Case("LSTM"), Case("LSTM", True, True),
    Case("LSTM", peephole=True), Case("LSTM", True, True, peephole=True),
    Case("LSTM", coupled=True), Case("LSTM", True, True, coupled=True),
    Case("LSTM", True, True, True, True),
    Case("GRU"), Case("GRU", reset_after=False),
    Case("GRU", True, True), Case("GRU", True, True, reset_after=False),
]


def weights(case: Case) -> dict[str, np.ndarray]:
    """Inputs of the node by ONNX's names, without sequence_lens."""
    rng = np.random.RandomState(sum(map(ord, str(case))))  # whose numbers never change
    d, g = case.directions, case.gates
    shapes: dict[str, tuple[int, ...]] = {"X": (T, B, D), "W": (d, g * H, D), "R": (d, g * H, H),
                                          "B": (d, 2 * g * H), "initial_h": (d, B, H)}
    if case.op == "LSTM":
        shapes["initial_c"] = (d, B, H)
        if case.peephole:
            shapes["P"] = (d, 3 * H)
    return {k: (0.7 * rng.standard_normal(s)).astype(np.float32) for k, s in shapes.items()}


def run_onnx(case: Case) -> dict[str, np.ndarray]:
    """Y (T, directions, B, H), Y_h and Y_c (directions, B, H), by onnxruntime."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    given: dict[str, np.ndarray] = weights(case)
    if case.ragged:
        given["sequence_lens"] = LENGTHS
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h"]
    shapes = {"Y": (T, case.directions, B, H), "Y_h": (case.directions, B, H)}
    if case.op == "LSTM":
        order += ["initial_c", "P"]
        shapes["Y_c"] = shapes["Y_h"]
    outputs = list(shapes)
    options: dict[str, Any] = {"hidden_size": H}
    options["direction"] = "bidirectional" if case.bidirectional else "forward"
    if case.op == "GRU":
        options["linear_before_reset"] = int(case.reset_after)
    if case.op == "LSTM":
        options["input_forget"] = int(case.coupled)
    if case.op == "RNN":
        options["activations"] = [case.activation] * case.directions
    node = helper.make_node(case.op, [name if name in given else "" for name in order], outputs, **options)
    kinds = {k: TensorProto.INT32 if k == "sequence_lens" else TensorProto.FLOAT for k in given}
    value = helper.make_tensor_value_info
    graph = helper.make_graph([node], "one", [value(k, kinds[k], v.shape) for k, v in given.items()],
                              [value(k, TensorProto.FLOAT, shape) for k, shape in shapes.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(outputs, session.run(outputs, given), strict=True))


def flat(results: dict[str, np.ndarray]) -> np.ndarray:
    """All numbers, by sorted name."""
    return np.concatenate([results[name].ravel() for name in sorted(results)])


if __name__ == "__main__":
    np.savez_compressed(FILE, **{str(case): flat(run_onnx(case)) for case in ALL})
