"""Weights of other libraries: the same numbers from them, whole round trips, and refusals that change
nothing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from golden import onnx_cases, torch_cases

import minigrad as mg
import rnn
from rnn import interop
from rnn.interop.arrays import as_array
from rnn.language_model import LanguageModel

D, H = 4, 6
LAYERS = {
    "rnn": lambda **o: rnn.RNN(D, H, **o),
    "relu": lambda **o: rnn.RNN(D, H, nonlinearity="relu", **o),
    "lstm": lambda **o: rnn.LSTM(D, H, **o),
    "peephole": lambda **o: rnn.LSTM(D, H, peephole=True, **o),
    "coupled": lambda **o: rnn.LSTM(D, H, coupled=True, **o),
    "both": lambda **o: rnn.LSTM(D, H, peephole=True, coupled=True, **o),
    "layer_norm": lambda **o: rnn.LSTM(D, H, layer_norm=True, **o),
    "projection": lambda **o: rnn.LSTM(D, H, projection=3, **o),
    "gru": lambda **o: rnn.GRU(D, H, **o),
    "before": lambda **o: rnn.GRU(D, H, reset_after=False, **o),
}
SHAPES = [{}, {"bias": False}, {"num_layers": 2, "bidirectional": True},
          {"num_layers": 3, "dtype": np.float64}]


def randomised(layer, seed=0):
    """All parameters, biases too, at random."""
    rng = np.random.default_rng(seed)
    for p in layer.parameters():
        p.assign(rng.normal(0, 0.6, p.shape))
    return layer


def same(a, b):
    """Every parameter bit for bit."""
    first, second = a.state_dict(), b.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def unchanged(layer, call, *parts, error=ValueError):
    """`call` is refused with a message that has all the parts, and the layer is as it was."""
    before = {name: p.numpy() for name, p in layer.named_parameters()}
    with pytest.raises(error) as caught:
        call()
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    for name, p in layer.named_parameters():
        np.testing.assert_array_equal(p.data, before[name])


# ------------------------------------------------------------------------------------------------ PyTorch


def like_torch(case):
    """Our layer with PyTorch's weights of a case."""
    C = torch_cases
    o = {"num_layers": case.layers, "bias": case.bias, "bidirectional": case.bidirectional,
         "dtype": np.float64}
    if case.kind in ("tanh", "relu"):
        layer = rnn.RNN(C.D, C.H, nonlinearity=case.kind, **o)
    elif case.kind == "gru":
        layer = rnn.GRU(C.D, C.H, **o)
    else:
        layer = rnn.LSTM(C.D, C.H, projection=C.P if case.kind == "projection" else None, **o)
    interop.load_torch(layer, C.weights(case))
    return layer


def run_case(case):
    """Outputs and final states of our layer on the inputs of a case."""
    layer, given = like_torch(case), torch_cases.inputs(case)
    fields = layer.cells[0].State._fields
    state = tuple(layer.cells[0].State(*(mg.tensor(given[f"{f}0"][k]) for f in fields))
                  for k in range(len(layer.cells)))
    y, final = layer(mg.tensor(given["x"]), state, torch_cases.LENGTHS if case.ragged else None)
    return {"y": y.data, **{f: np.stack([getattr(s, f).data for s in final]) for f in fields}}


@pytest.mark.parametrize("case", torch_cases.ALL[1::3], ids=str)
def test_torch_outputs(case):
    pytest.importorskip("torch")
    theirs = torch_cases.run_torch(case)
    for name, ours in run_case(case).items():
        np.testing.assert_allclose(ours, theirs[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", torch_cases.STORED, ids=str)
def test_torch_outputs_stored(case):
    ours = run_case(case)
    stored = np.load(torch_cases.FILE)[str(case)]  # by sorted name: [c], gradients dc/… dh/… dy/…, h, y
    ends = np.concatenate([ours["h"].ravel(), ours["y"].ravel()])
    np.testing.assert_allclose(ends, stored[-ends.size:], rtol=0, atol=1e-12)
    if "c" in ours:
        np.testing.assert_allclose(ours["c"].ravel(), stored[:ours["c"].size], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["rnn", "relu", "lstm", "projection", "gru"])
@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_torch_takes_what_we_give(kind, options):
    torch = pytest.importorskip("torch")
    layer = randomised(LAYERS[kind](**{**options, "dtype": np.float64}))
    o = {"num_layers": layer.num_layers, "bias": options.get("bias", True), "batch_first": True,
         "bidirectional": layer.bidirectional, "dtype": torch.float64}
    name = {"rnn": "RNN", "relu": "RNN", "gru": "GRU"}.get(kind, "LSTM")
    if kind == "relu":
        o["nonlinearity"] = "relu"
    theirs = getattr(torch.nn, name)(D, H, **o, **({"proj_size": 3} if kind == "projection" else {}))
    given = interop.to_torch(layer)
    assert list(given) == list(theirs.state_dict())
    theirs.load_state_dict({k: torch.tensor(v) for k, v in given.items()})
    x = np.random.default_rng(1).normal(size=(2, 5, D))
    y, _ = layer(mg.tensor(x))
    y_theirs, _ = theirs(torch.tensor(x))
    np.testing.assert_allclose(y.data, y_theirs.detach(), rtol=0, atol=1e-12)
    (y * y).sum().backward()
    (y_theirs * y_theirs).sum().backward()
    ours = interop.to_torch(layer, grads=True)
    for k, p in theirs.named_parameters():
        np.testing.assert_allclose(ours[k], p.grad, rtol=0, atol=1e-11, err_msg=k)
    again = LAYERS[kind](**{**options, "dtype": np.float64})
    interop.load_torch(again, theirs.state_dict())
    same(again, layer)


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_torch_cells(name):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, name)(D, H)
    cell = getattr(rnn, name)(D, H)
    interop.load_torch(cell, theirs.state_dict())
    x = np.random.default_rng(2).normal(size=(3, D)).astype(np.float32)
    y, _ = cell(mg.tensor(x), cell.initial_state(3))
    expected = theirs(torch.tensor(x))
    expected = expected[0] if isinstance(expected, tuple) else expected
    np.testing.assert_allclose(y.data, expected.detach(), rtol=0, atol=1e-6)
    assert list(interop.to_torch(cell)) == list(theirs.state_dict())


def test_torch_biases_are_folded():
    cell = rnn.GRUCell(2, 3)
    state = interop.to_torch(cell) | {"bias_ih": np.arange(9.0), "bias_hh": np.full(9, 10.0)}
    interop.load_torch(cell, state)
    np.testing.assert_array_equal(cell.bias.data, [10, 11, 12, 13, 14, 15, 6, 7, 8])
    np.testing.assert_array_equal(cell.bias_hn.data, [10, 10, 10])
    back = interop.to_torch(cell)
    np.testing.assert_array_equal(back["bias_hh"], [0] * 6 + [10] * 3)
    np.testing.assert_array_equal(back["bias_ih"], cell.bias.data)
    assert all(v.flags.writeable and v.flags.c_contiguous for v in back.values())


def test_torch_prefix_and_duck_typing():
    class Foreign:  # what is asked of a torch tensor
        def __init__(self, array):
            self.array = array

        def detach(self):
            return self

        def cpu(self):
            return self

        def numpy(self):
            return self.array

    source, target = randomised(rnn.LSTM(D, H, 2)), rnn.LSTM(D, H, 2)
    state = {f"encoder.{k}": Foreign(v) for k, v in interop.to_torch(source).items()}
    interop.load_torch(target, {**state, "head.weight": np.zeros(3)}, prefix="encoder.")
    same(target, source)


def test_torch_low_precision_tensors():
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(as_array(torch.tensor([1.5, -2.0], dtype=torch.bfloat16)), [1.5, -2.0])
    assert as_array(torch.ones(2, requires_grad=True)).dtype == np.float32


def test_torch_refuses_and_says_everything():
    layer = randomised(rnn.GRU(D, H))
    state = interop.to_torch(layer)
    state["weight_ih_l0"] = state["weight_ih_l0"].T
    state["bias_hh_l1"] = state.pop("bias_hh_l0")
    unchanged(layer, lambda: interop.load_torch(layer, state), "GRU", "missing 'bias_hh_l0' (18,)",
              "unexpected 'bias_hh_l1' (18,)", "'weight_ih_l0' has shape (4, 18), expected (18, 4)")
    text = interop.to_torch(layer) | {"bias_ih_l0": np.array(["x"] * 18)}
    unchanged(layer, lambda: interop.load_torch(layer, text), "not a real number")
    unchanged(layer, lambda: interop.to_torch(layer, grads=True), "loss.backward()")
    for kind, what in [("peephole", "peephole"), ("coupled", "coupled"), ("layer_norm", "layer_norm"),
                       ("before", "reset_after=False"), ("both", "peephole and coupled")]:
        with pytest.raises(ValueError, match=f"PyTorch has no .* with {what}"):
            interop.to_torch(LAYERS[kind]())
    with pytest.raises(ValueError, match="concatenation"):
        interop.to_torch(rnn.RNN(D, H, 2, bidirectional=True, merge="sum"))
    with pytest.raises(TypeError, match="not of a Linear"):
        interop.to_torch(mg.nn.Linear(2, 3))


# ------------------------------------------------------------------------ Keras, Deep Learning from Scratch


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def keras_loop(kind, x, kernel, recurrent, bias):
    """Keras' documented formulas, gate by gate: i, f, c, o and z, r, h."""
    h = c = np.zeros((len(x), len(recurrent)))
    ys = []
    for t in range(x.shape[1]):
        if kind == "lstm":
            i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        elif kind == "rnn":
            h = np.tanh(x[:, t] @ kernel + h @ recurrent + bias)
        else:
            b_in, b_rec = bias if bias.ndim == 2 else (bias, 0)
            xz, xr, xh = np.split(x[:, t] @ kernel + b_in, 3, axis=1)
            rz, rr, rh = np.split(h @ recurrent + b_rec, 3, axis=1)
            z, r = sigmoid(xz + rz), sigmoid(xr + rr)
            n = np.tanh(xh + (r * rh if kind == "gru" else (r * h) @ recurrent[:, -len(h[0]):]))
            h = z * h + (1 - z) * n
        ys.append(h)
    return np.stack(ys, axis=1)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru", "before"])
def test_keras(kind):
    rng = np.random.default_rng(3)
    G = {"rnn": 1, "lstm": 4}.get(kind, 3)
    bias = (2, G * H) if kind == "gru" else (G * H,)
    weights = [rng.normal(size=s) for s in ((D, G * H), (H, G * H), bias)]
    layer = LAYERS[kind](dtype=np.float64)
    interop.load_keras(layer, weights)
    x = rng.normal(size=(2, 5, D))
    theirs = keras_loop(kind, x, *weights)
    np.testing.assert_allclose(layer(mg.tensor(x))[0].data, theirs, rtol=0, atol=1e-12)
    np.testing.assert_allclose(keras_loop(kind, x, *interop.to_keras(layer)), theirs, rtol=0, atol=1e-12)


def scratch_loop(kind, x, Wx, Wh, b):
    """The book's formulas: f, g, i, o and z, r, h, where z says how much to replace."""
    h = c = np.zeros((len(x), len(Wh)))
    ys = []
    for t in range(x.shape[1]):
        a = x[:, t] @ Wx + b
        if kind == "lstm":
            f, g, i, o = np.split(a + h @ Wh, 4, axis=1)
            c = sigmoid(f) * c + np.tanh(g) * sigmoid(i)
            h = sigmoid(o) * np.tanh(c)
        elif kind == "rnn":
            h = np.tanh(a + h @ Wh)
        else:
            (z, r, n), (uz, ur, un) = np.split(a, 3, axis=1), np.split(Wh, 3, axis=1)
            z, r = sigmoid(z + h @ uz), sigmoid(r + h @ ur)
            h = (1 - z) * h + z * np.tanh(n + (r * h) @ un)
        ys.append(h)
    return np.stack(ys, axis=1)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "before"])
def test_scratch(kind):
    rng = np.random.default_rng(4)
    G = {"rnn": 1, "lstm": 4}.get(kind, 3)
    params = [rng.normal(size=s) for s in ((D, G * H), (H, G * H), (G * H,))]
    layer = LAYERS[kind](dtype=np.float64)
    interop.load_scratch(layer, params)
    x = rng.normal(size=(2, 5, D))
    theirs = scratch_loop(kind, x, *params)
    np.testing.assert_allclose(layer(mg.tensor(x))[0].data, theirs, rtol=0, atol=1e-12)
    for ours, theirs in zip(interop.to_scratch(layer), params, strict=True):
        np.testing.assert_array_equal(ours, theirs)


ROUND_TRIPS = [("torch", ["rnn", "relu", "lstm", "projection", "gru"]),
               ("keras", ["rnn", "lstm", "gru", "before"]),
               ("scratch", ["rnn", "lstm", "before"]),
               ("onnx", ["rnn", "relu", "lstm", "peephole", "coupled", "both", "gru", "before"])]


@pytest.mark.parametrize("options", SHAPES, ids=str)
@pytest.mark.parametrize("library, kind", [(name, kind) for name, kinds in ROUND_TRIPS for kind in kinds])
def test_round_trip(library, kind, options):
    source, target = randomised(LAYERS[kind](**options)), LAYERS[kind](**options)
    load, to = getattr(interop, f"load_{library}"), getattr(interop, f"to_{library}")
    if library == "scratch" and options.get("bias") is False:
        with pytest.raises(ValueError, match="without a bias"):
            to(source)
        return
    load(target, to(source))
    same(target, source)


def test_lists_that_do_not_fit():
    layer = randomised(rnn.LSTM(D, H))
    kernel, recurrent, bias = interop.to_keras(layer)
    unchanged(layer, lambda: interop.load_keras(layer, [kernel, recurrent]), "missing 'bias 0' (24,)")
    unchanged(layer, lambda: interop.load_keras(layer, [kernel, recurrent, bias, bias]), "'array 3' (24,)")
    unchanged(layer, lambda: interop.load_scratch(layer, [kernel.T, recurrent, bias]), "'Wx 0' has shape (24")
    (onnx,) = interop.to_onnx(layer)
    unchanged(layer, lambda: interop.load_onnx(layer, [onnx, onnx]), "1 layer(s)", "those of 2")
    unchanged(layer, lambda: interop.load_onnx(layer, {**onnx, "P": onnx["B"]}), "unexpected 'P' (1, 48)")
    for library, kind, what in [("keras", "projection", "projection"), ("keras", "peephole", "peephole"),
                                ("scratch", "gru", "reset_after=True"), ("onnx", "layer_norm", "layer_norm"),
                                ("onnx", "projection", "projection")]:
        with pytest.raises(ValueError, match=f"has no .* with {what}"):
            getattr(interop, f"to_{library}")(LAYERS[kind]())


# --------------------------------------------------------------------------------------------------- ONNX


@pytest.mark.parametrize("case", onnx_cases.ALL, ids=str)
def test_onnx_weights_against_stored_results(case):
    C, o = onnx_cases, {"bidirectional": case.bidirectional}
    if case.op == "RNN":
        layer = rnn.RNN(C.D, C.H, nonlinearity=case.activation.lower(), **o)
    elif case.op == "GRU":
        layer = rnn.GRU(C.D, C.H, reset_after=case.reset_after, **o)
    else:
        layer = rnn.LSTM(C.D, C.H, peephole=case.peephole, coupled=case.coupled, **o)
    given = C.weights(case)
    interop.load_onnx(layer, {k: v for k, v in given.items() if k in "WRBP"})
    fields = layer.cells[0].State._fields
    state = tuple(layer.cells[0].State(*(mg.tensor(given[f"initial_{f}"][k]) for f in fields))
                  for k in range(case.directions))
    y, final = layer(mg.tensor(given["X"].swapaxes(0, 1)), state, C.LENGTHS if case.ragged else None)
    ours = {"Y": y.data.reshape(C.B, C.T, case.directions, C.H).transpose(1, 2, 0, 3)}
    ours |= {f"Y_{f}": np.stack([getattr(s, f).data for s in final]) for f in fields}
    np.testing.assert_allclose(C.flat(ours), np.load(C.FILE)[str(case)], rtol=0, atol=1e-5)


def run_file(path, feeds):
    """The outputs of an ONNX file by name."""
    onnxruntime = pytest.importorskip("onnxruntime")
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), quiet, providers=["CPUExecutionProvider"])
    return dict(zip([v.name for v in session.get_outputs()], session.run(None, feeds), strict=True))


EXPORTED = [*((kind, {}) for kind in ("rnn", "relu", "lstm", "peephole", "coupled", "both", "gru", "before")),
            *((kind, {"num_layers": 2, "bidirectional": True, "merge": merge})
              for kind, merge in [("rnn", "average"), ("both", "concat"), ("lstm", "sum"), ("gru", "mul")]),
            ("lstm", {"bias": False, "num_layers": 3}), ("before", {"bias": False, "bidirectional": True}),
            ("gru", {"dtype": np.float64})]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("lengths, state, sequences",
                         [(0, 0, True), (1, 1, True), (1, 0, False), (0, 1, False)])
@pytest.mark.parametrize("kind, options", EXPORTED, ids=str)
def test_export_of_layers(kind, options, lengths, state, sequences, tmp_path):
    pytest.importorskip("onnx")
    layer = randomised(LAYERS[kind](return_sequences=sequences, **options))
    interop.export_onnx(layer, tmp_path / "layer.onnx", lengths=bool(lengths), state=bool(state))
    rng = np.random.default_rng(5)
    x = rng.normal(size=(3, 5, D)).astype(np.float32)
    ends, initial, feeds = np.array([5, 2, 3]), None, {"x": x}
    if lengths:
        feeds["lengths"] = ends.astype(np.int32)
    if state:
        fields = layer.cells[0].State._fields
        values = [{f: rng.normal(size=(3, H)).astype(np.float32) for f in fields} for _ in layer.cells]
        feeds |= {f"{f}_{k}": v for k, cell in enumerate(values) for f, v in cell.items()}
        initial = tuple(layer.cells[0].State(*(mg.tensor(v) for v in cell.values())) for cell in values)
    theirs = run_file(tmp_path / "layer.onnx", feeds)
    y, final = layer(mg.tensor(x.astype(layer.dtype)), initial, ends if lengths else None)
    ours = {f"{f}_n_{k}": getattr(s, f).data for k, s in enumerate(final) for f in s._fields}
    ours["outputs"] = y.data
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value.shape == theirs[name].shape, name
        np.testing.assert_allclose(theirs[name], value, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("embedding, tied", [(None, False), (5, False), (H, True)])
def test_export_of_language_models(embedding, tied, tmp_path):
    pytest.importorskip("onnx")
    layers = rnn.LSTM(embedding or 9, H, 2, peephole=True, dropout=0.5)
    model = randomised(LanguageModel(9, layers, embedding, tied=tied))
    interop.export_onnx(model, tmp_path / "model.onnx", state=True)
    ids = np.random.default_rng(6).integers(0, 9, (2, 7))
    zeros = {f"{f}_{k}": np.zeros((2, H), np.float32) for f in "hc" for k in range(2)}
    whole = run_file(tmp_path / "model.onnx", {"ids": ids, **zeros})
    logits, final = model.eval()(ids)
    np.testing.assert_allclose(whole["logits"], logits.data, rtol=0, atol=1e-5)
    first = run_file(tmp_path / "model.onnx", {"ids": ids[:, :3], **zeros})  # the state carried by hand
    carried = {name: first[name[0] + "_n" + name[1:]] for name in zeros}
    second = run_file(tmp_path / "model.onnx", {"ids": ids[:, 3:], **carried})
    np.testing.assert_allclose(second["logits"], logits.data[:, 3:], rtol=0, atol=1e-5)
    np.testing.assert_allclose(second["c_n_1"], final[1].c.data, rtol=0, atol=1e-5)


def test_export_of_a_layer_with_dropout(tmp_path):
    pytest.importorskip("onnx")
    layer = randomised(rnn.GRU(D, H, dropout=rnn.dropout.Variational(0.5)))  # nothing in evaluation
    interop.export_onnx(layer, tmp_path / "layer.onnx")
    x = np.random.default_rng(7).normal(size=(2, 3, D)).astype(np.float32)
    theirs = run_file(tmp_path / "layer.onnx", {"x": x})["outputs"]
    np.testing.assert_allclose(theirs, layer.eval()(x)[0].data, rtol=0, atol=1e-5)


def test_export_refuses(tmp_path):
    pytest.importorskip("onnx")
    path = tmp_path / "no.onnx"
    for layer, options, part in [
            (LAYERS["layer_norm"](), {}, "layer_norm"), (LAYERS["projection"](), {}, "projection"),
            (rnn.RNN(D, H, bidirectional=True, merge=None), {}, "merge=None"),
            (rnn.RNN(D, H, past_end="repeat"), {"lengths": True}, "repeat")]:
        with pytest.raises(ValueError, match=part):
            interop.export_onnx(layer, path, **options)
    for layer, part in [(rnn.LSTM(D, H, dropout=rnn.dropout.Zoneout(cell=0.5)), "Zoneout"),
                        (rnn.LSTM(D, H, dropout=rnn.dropout.RNNDrop(0.5)), "RNNDrop"),
                        (rnn.LSTM(D, H, learn_initial_state=True), "state=True"),
                        (rnn.Jordan(D, H, output_size=2), "JordanCell")]:
        with pytest.raises(ValueError, match=part):
            interop.export_onnx(layer, path)
    with pytest.raises(TypeError, match="not a Linear"):
        interop.export_onnx(mg.nn.Linear(2, 3), path)
    assert not path.exists()


# -------------------------------------------------------------------------------------------------- files


def test_safetensors(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    layer, again = randomised(rnn.LSTM(D, H, 2)), rnn.LSTM(D, H, 2)
    path = tmp_path / "lstm.safetensors"
    interop.save_safetensors(path, interop.to_torch(layer))
    interop.load_torch(again, interop.load_safetensors(path))
    same(again, layer)
    a = np.arange(12.0).reshape(3, 4)
    odd = {"transposed": a.T, "big-endian": a.astype(">f8"), "strided": a[:, ::2], "scalar": np.float32(3),
           "empty": np.zeros((0, 2)), "bool": a > 5, "tensor": mg.tensor(a),
           "int": np.arange(3, dtype=np.int8)}
    interop.save_safetensors(path, odd)
    back = library.load_file(path)
    assert back.keys() == odd.keys()
    for name, value in odd.items():
        np.testing.assert_array_equal(back[name], as_array(value), err_msg=name)
        assert back[name].shape == np.shape(as_array(value))
    assert [p.name for p in tmp_path.iterdir()] == ["lstm.safetensors"]  # nothing is left lying about


def test_safetensors_refusals(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "a.safetensors"
    interop.save_safetensors(path, {"a": np.ones(2)})
    for bad in ({"a": np.array(["x"])}, {"a": np.ones(2, complex)}, {1: np.ones(2)}):
        with pytest.raises(TypeError):
            interop.save_safetensors(path, bad)
    np.testing.assert_array_equal(interop.load_safetensors(path)["a"], [1, 1])
    with pytest.raises(FileNotFoundError):
        interop.load_safetensors(tmp_path / "none")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"cannot read .*a\.safetensors"):
        interop.load_safetensors(path)


def test_missing_packages_say_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"minigrad-rnn\[interop\]"):
        interop.save_safetensors(tmp_path / "a", {})
    with pytest.raises(ImportError, match=r"minigrad-rnn\[interop\]"):
        interop.load_safetensors(tmp_path / "a")
    with pytest.raises(ImportError, match=r"minigrad-rnn\[onnx\]"):
        interop.export_onnx(rnn.RNN(1, 1), tmp_path / "a")


def test_safetensors_headers_that_take_more_memory_than_the_file(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "a.safetensors"
    many = ",".join(f'"{k}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for k in range(25_000))
    for header, length in (("{" + many + "}", None), ("{}" + " " * 2**22, None), ("{}", 2**63), ("{}", 100)):
        content = header.encode()
        path.write_bytes((len(content) if length is None else length).to_bytes(8, "little") + content)
        with pytest.raises(ValueError, match="its header"):
            interop.load_safetensors(path)
    path.write_bytes(b"abc")
    with pytest.raises(ValueError, match="its header"):
        interop.load_safetensors(path)
