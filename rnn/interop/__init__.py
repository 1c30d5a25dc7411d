"""Weights to and from other libraries.

Each layout is a pair of functions over plain arrays, so the other library need not be installed:

    load_torch / to_torch        a `state_dict` of torch.nn.RNN, LSTM, GRU or their cells
    load_keras / to_keras        the list that `get_weights()` gives
    load_onnx / to_onnx          the inputs W, R, B and P of ONNX' operators
    load_scratch / to_scratch    Wx, Wh and b as in "Deep Learning from Scratch 2"

Every `load_…` looks at all arrays first, lists what is missing, unexpected or of another shape, and changes
nothing then.

`save_safetensors` and `load_safetensors` keep such arrays in files (extra `interop`); `export_onnx` writes a
layer or a language model as a graph that other runtimes run (extra `onnx`).
"""

from .export import export_onnx
from .files import load_safetensors, save_safetensors
from .keras import load_keras, to_keras
from .onnx import load_onnx, to_onnx
from .scratch import load_scratch, to_scratch
from .torch import load_torch, to_torch

__all__ = ["export_onnx", "load_keras", "load_onnx", "load_safetensors", "load_scratch", "load_torch",
           "save_safetensors", "to_keras", "to_onnx", "to_scratch", "to_torch"]
