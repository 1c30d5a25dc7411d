"""Cells that somebody writes from the README: with other weights, without a recurrent product, with dropout."""

import numpy as np
import pytest

import minigrad as mg
import rnn


class SRUCell(rnn.Cell):
    """c' = f·c + (1 - f)·x̃,  h = r·c' + (1 - r)·k (Lei et al. 2018): only its gates see the past, entry by entry."""

    gates = ("x", "f", "r", "k")
    products = ()
    State = rnn.LSTMState

    def __init__(self, input_size, hidden_size, bias=True, **options):
        super().__init__(input_size, hidden_size, bias, **options)
        del self.weight_hh
        self.v = mg.nn.Parameter(np.full((2, hidden_size), 0.3), dtype=self.dtype)

    def step(self, a, state, U, taps=rnn.cells.NO_TAPS):
        assert U == ()
        x, f, r, k = mg.split(a, 4, axis=-1)
        f, r = mg.sigmoid(f + self.v[0] * state.c), mg.sigmoid(r + self.v[1] * state.c)
        c = taps.cell(f * state.c + (1 - f) * taps.candidate(x))
        new = taps.update(state, rnn.LSTMState(r * c + (1 - r) * k, c))
        return new.h, new


class MultiplicativeLSTMCell(rnn.Cell):
    """m = (W_m x)·(U_m h); an LSTM whose gates see W x + U m (Krause et al. 2016)."""

    gates = ("m", "i", "f", "g", "o")
    products = (1, 4)
    State = rnn.LSTMState

    def step(self, a, state, U, taps=rnn.cells.NO_TAPS):
        a_m, a = mg.split(a, [self.hidden_size], axis=-1)
        m = a_m * taps.product(state.h, U[0], slice(0, 1))
        i, f, g, o = mg.split(a + taps.product(m, U[1], slice(1, 5)), 4, axis=-1)
        c = taps.cell(mg.sigmoid(f) * state.c + mg.sigmoid(i) * taps.candidate(mg.tanh(g)))
        new = taps.update(state, rnn.LSTMState(mg.sigmoid(o) * mg.tanh(c), c))
        return new.h, new


class SRU(rnn.Recurrent):
    cell_type = SRUCell


class MultiplicativeLSTM(rnn.Recurrent):
    cell_type = MultiplicativeLSTMCell


class OwnZoneout(rnn.dropout.Zoneout):
    cells = (SRUCell, MultiplicativeLSTMCell)


class OwnRecurrent(rnn.dropout.Recurrent):
    cells = (SRUCell, MultiplicativeLSTMCell)


X = np.random.default_rng(0).normal(size=(3, 4, 2))


@pytest.mark.parametrize("make", [SRU, MultiplicativeLSTM])
def test_derivatives(make):
    layer = make(2, 3, 2, bidirectional=True, dtype=np.float64, rng=0, compiled=False)
    assert mg.gradcheck(lambda x: layer(x, lengths=[4, 1, 3])[0], X)


@pytest.mark.parametrize("make", [SRU, MultiplicativeLSTM])
def test_compiled_is_eager_with_every_scheme(make):
    schemes = [rnn.dropout.NonRecurrent(0.2), rnn.dropout.Variational(0.3), OwnRecurrent(0.2),
               OwnZoneout(cell=0.3, hidden=0.2)]
    results = []
    for compiled in (False, True):
        layer = make(2, 3, 2, dtype=np.float64, rng=0, dropout=schemes, compiled=compiled)
        x = mg.tensor(X, requires_grad=True)
        outputs, state = layer(x, lengths=[4, 1, 3])
        gradients = mg.grad(np.sum(outputs ** 2) + sum(np.sum(s.c ** 3) for s in state), [x, *layer.parameters()])
        results.append([outputs.data, *(g.data for g in gradients)])
        assert {"layer 0/OwnZoneout.c", "layer 0/OwnZoneout.h", "layer 1/OwnRecurrent.g"} <= layer.masks.keys()
    for eager, fast in zip(*results):
        np.testing.assert_allclose(fast, eager, rtol=1e-10, atol=1e-12)


def test_a_unit_that_is_zoned_out_keeps_its_value():
    layer = SRU(2, 3, dtype=np.float64, rng=0, dropout=OwnZoneout(cell=0.5))
    first = (rnn.LSTMState(mg.tensor(np.ones((3, 3))), mg.tensor(np.full((3, 3), 7.0))),)
    keep = np.zeros((1, 3, 3))
    keep[0, 1, 2] = 1
    _, (state,) = layer(X[:, :1], first, masks={"layer 0/OwnZoneout.c": keep})
    assert np.array_equal(state.c.data == 7.0, keep[0] == 1)


@pytest.mark.parametrize("scheme", [rnn.dropout.Zoneout(hidden=0.1), rnn.dropout.Recurrent(0.1),
                                    rnn.dropout.RNNDrop(0.1)])
def test_schemes_inside_the_formulas_say_how_to_allow_a_cell(scheme):
    name = type(scheme).__name__
    with pytest.raises(ValueError, match=rf"not for SRUCell\. .* class Own\({name}\): cells = \(SRUCell,\)"):
        SRU(2, 3, dropout=scheme)


def test_zoneout_of_a_cell_that_a_state_lacks():
    with pytest.raises(ValueError, match="GRUCell has no c; use hidden= alone"):
        rnn.GRU(2, 3, dropout=rnn.dropout.Zoneout(cell=0.1))
