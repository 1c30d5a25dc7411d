"""Each dropout scheme at each cell beside a plain loop with the same masks, and what masks leave alone."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from compare import B, D, H, T, assert_like_loop, randomise
from loops import gru_loop, jordan_loop, lstm_loop, no_mask, rnn_loop

import minigrad as mg
import rnn
from rnn.dropout import (
    EmbeddingDropout,
    LockedDropout,
    Mask,
    NonRecurrent,
    Recurrent,
    RNNDrop,
    Scheme,
    Variational,
    WeightDrop,
    Zoneout,
    activation_regularisation,
    monte_carlo,
    temporal_activation_regularisation,
)

KINDS = {
    "rnn": (rnn.RNN, rnn_loop, {}),
    "relu": (rnn.RNN, rnn_loop, {"nonlinearity": "relu"}),
    "jordan": (rnn.Jordan, jordan_loop, {"activation": "tanh"}),
    "lstm": (rnn.LSTM, lstm_loop, {}),
    "coupled": (rnn.LSTM, lstm_loop, {"coupled": True}),
    "layer norm": (rnn.LSTM, lstm_loop, {"layer_norm": True}),
    "gru": (rnn.GRU, gru_loop, {}),
    "gru before": (rnn.GRU, gru_loop, {"reset_after": False}),
}
LAYER_ONLY = {  # options that the loop finds in the parameters
    "peephole projected": (rnn.LSTM, lstm_loop, {"peephole": True, "projection": 2}),
}
SCHEMES = {
    "non-recurrent": lambda: NonRecurrent(0.4),
    "rnndrop": lambda: RNNDrop(0.4),
    "variational": lambda: Variational(0.4),
    "untied": lambda: Variational(0.4, tied=False),
    "weight drop": lambda: WeightDrop(0.4),
    "recurrent": lambda: Recurrent(0.4),
    "recurrent, sequence": lambda: Recurrent(0.4, per="sequence"),
    "zoneout h": lambda: Zoneout(hidden=0.4),
    "zoneout": lambda: Zoneout(cell=0.5, hidden=0.3),
}


def defined(kind: str, scheme: str) -> bool:
    lstm = kind in ("lstm", "coupled", "layer norm", "peephole projected")
    other = scheme not in ("rnndrop", "zoneout")
    return lstm or (other and (kind != "jordan" or not scheme.startswith(("recurrent", "zoneout"))))


PAIRS = [(kind, scheme) for kind in (*KINDS, *LAYER_ONLY) for scheme in SCHEMES if defined(kind, scheme)]
every_pair = pytest.mark.parametrize(("kind", "scheme"), PAIRS, ids=[f"{k}, {s}" for k, s in PAIRS])


def make(kind: str, dropout, seed: int = 0, **more):
    """A random float64 layer of one cell, its loop, and the loop's options."""
    layer_type, loop, options = (KINDS | LAYER_ONLY)[kind]
    layer = layer_type(D, H, dropout=dropout, dtype=np.float64, dropout_rng=seed, **options, **more)
    return randomise(layer, seed), loop, options if kind in KINDS else {}


def drawn(layer, batch: int = B, time: int = T):
    """The masks of a call."""
    layer(np.zeros((batch, time, layer.input_size), layer.dtype))
    return dict(layer.masks)


def lookup(masks, place: str = "layer 0"):
    """The masks of a layer as the loops look them up; several of one name multiply."""

    @cache  # derivatives by complex steps ask again and again
    def m(name, t, gate):
        values = []
        for key, mask in masks.items():
            where, _, rest = key.partition("/")
            scheme, _, what = rest.partition(".")
            if where == place and name == ("z" if scheme == "Zoneout" else "") + what:
                per_gate = scheme.startswith("Variational") and mask.ndim == 3
                values.append(mask[gate] if per_gate else mask[t] if mask.ndim == 3 else mask)
        return np.prod(np.broadcast_arrays(*values), axis=0) if values else no_mask(name, t, gate)

    return m


# -- beside plain loops, with the same masks ---------------------------------------------------------------


@pytest.mark.no_cover
@every_pair
def test_scheme_is_its_formula(kind, scheme):
    layer, loop, options = make(kind, SCHEMES[scheme]())
    masks = drawn(layer)
    assert masks
    assert any((mask == 0).any() and (mask != 0).any() for mask in masks.values())
    assert_like_loop(layer, loop, lookup(masks), masks=masks, **options)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_schemes_compose(kind):
    zoneout = Zoneout(cell=0.3 if kind == "lstm" else 0.0, hidden=0.3)
    schemes = [WeightDrop(0.3), Variational(0.3), Recurrent(0.3), zoneout, NonRecurrent(0.2)]
    layer, loop, options = make(kind, schemes + ([RNNDrop(0.2)] if kind == "lstm" else []))
    masks = drawn(layer)
    assert_like_loop(layer, loop, lookup(masks), masks=masks, **options)


def test_untied_masks_compose_with_others():
    schemes = [Variational(0.3, tied=False), WeightDrop(0.3), NonRecurrent(0.3)]
    layer, loop, options = make("gru before", schemes)
    masks = drawn(layer)
    assert masks["layer 0/Variational.h"].shape == (3, B, H)
    assert_like_loop(layer, loop, lookup(masks), masks=masks, **options)


def test_two_of_a_kind():
    layer, loop, options = make("lstm", [NonRecurrent(0.3, top=False), NonRecurrent(0.5)])
    masks = drawn(layer)
    assert set(masks) == {"layer 0/NonRecurrent.x", "layer 0/NonRecurrent 2.x", "layer 0/NonRecurrent 2.y"}
    assert_like_loop(layer, loop, lookup(masks), masks=masks, **options)


@pytest.mark.parametrize("layer_type", [rnn.LSTM, rnn.GRU])
def test_stacked_and_bidirectional(layer_type):
    loop = {rnn.LSTM: lstm_loop, rnn.GRU: gru_loop}[layer_type]
    schemes = [NonRecurrent(0.3, bottom=False), Variational(input=0.2, hidden=0.3, output=0.4),
               WeightDrop(0.3)]
    layer = layer_type(D, H, 2, bidirectional=True, dropout=schemes, dtype=np.float64, dropout_rng=0)
    randomise(layer)
    x = np.random.default_rng(0).normal(size=(B, T, D))
    ours, _ = layer(x)
    masks = layer.masks
    assert not any("layer 0" in key and (".y" in key or "NonRecurrent" in key) for key in masks)
    for k in range(2):
        both = []
        for d, place in enumerate((f"layer {k}", f"layer {k} backward")):
            cell = layer.cells[2 * k + d]
            m = lookup(masks, place)
            flipped = (lambda name, t, gate, m=m: m(name, T - 1 - t, gate)) if d else m
            zeros = [np.zeros((B, H))] * len(cell.sizes())
            y = loop(cell.state_dict(), x[:, ::-1] if d else x, *zeros, flipped)[0]
            both.append(y[:, ::-1] if d else y)
        x = np.concatenate(both, axis=-1)
    np.testing.assert_allclose(ours.data, x, atol=1e-13)


# -- evaluation --------------------------------------------------------------------------------------------


@every_pair
def test_evaluation_replaces_masks_by_their_means(kind, scheme):
    layer, loop, options = make(kind, SCHEMES[scheme]())
    layer.eval()
    means = {"rnndrop": {"c": 0.6}, "zoneout h": {"zh": 0.4}, "zoneout": {"zc": 0.5, "zh": 0.3}}
    mean = means.get(scheme, {})
    assert_like_loop(layer, loop, lambda name, t, k: mean.get(name, no_mask(name, t, k)), gradients=False,
                     **options)
    assert layer.masks == {}


def test_rnndrop_scaling_what_leaves_the_cell():
    layer, loop, options = make("lstm", RNNDrop(0.4, evaluation="readout"))
    masks = drawn(layer)
    assert_like_loop(layer, loop, lookup(masks), masks=masks, **options)
    layer.eval()
    assert_like_loop(layer, loop, lambda name, t, k: 0.6 if name == "y" else no_mask(name, t, k), **options)


@every_pair
def test_train_eval_train(kind, scheme):
    layer, _, _ = make(kind, SCHEMES[scheme]())
    x = np.random.default_rng(0).normal(size=(8, 6, D))
    first, second = layer(x)[0].data, layer(x)[0].data
    assert not np.array_equal(first, second), "masks of an earlier call were used again"
    layer.eval()
    assert np.array_equal(layer(x)[0].data, layer(x)[0].data)
    assert not any("mask" in (label or "") for label in mg.tape(layer(x)[0]).labels().values())
    layer.train()
    assert not np.array_equal(layer(x)[0].data, layer(x)[0].data)


@pytest.mark.parametrize("scheme", ["non-recurrent", "variational", "weight drop", "recurrent"])
def test_evaluation_costs_nothing_where_masks_are_scaled(scheme):
    x = np.ones((B, T, D))
    dropping, plain = make("lstm", SCHEMES[scheme]())[0].eval(), make("lstm", None)[0]
    assert len(mg.tape(dropping(x)[0])) == len(mg.tape(plain(x)[0]))


def test_evaluation_mode_and_recording_are_two_things():
    layer, _, _ = make("lstm", Variational(0.5))
    with mg.no_grad():
        assert not np.array_equal(layer(np.ones((B, T, D)))[0].data, layer(np.ones((B, T, D)))[0].data)
    layer.eval()
    layer(np.ones((B, T, D)))[0].sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_monte_carlo_keeps_the_masks_on():
    class Model(mg.nn.Module):
        def __init__(self):
            self.words = EmbeddingDropout(mg.nn.Embedding(7, D, rng=0), 0.5, rng=0)
            self.layer = rnn.GRU(D, H, dropout=Variational(0.5), rng=0)
            self.locked = LockedDropout(0.5, rng=0)
            self.last = mg.nn.Dropout(0.5, rng=0)

        def forward(self, ids):
            return self.last(self.locked(self.layer(self.words(ids))[0]))

    model, ids = Model().eval(), np.arange(6).reshape(2, 3)
    certain = model(ids).data
    with monte_carlo(model), mg.no_grad():
        samples = np.stack([model(ids).data for _ in range(200)])
        assert model.layer.masks
        assert model.words.mask is not None
        assert model.locked.mask is not None
    assert samples.std(axis=0).min() > 0
    assert not model.training
    assert not model.last.training
    assert np.array_equal(model(ids).data, certain)
    with pytest.raises(RuntimeError, match="stop"), monte_carlo(model):
        raise RuntimeError("stop")
    assert np.array_equal(model(ids).data, certain)


# -- what the masks are ------------------------------------------------------------------------------------


def test_values_shapes_and_frequencies():
    n, t, d, h = 40, 30, 20, 25

    def masks_of(scheme):
        return drawn(rnn.LSTM(d, h, dropout=scheme, dropout_rng=1, compiled=False), n, t)

    def check(mask, shape, p_zero, one=1.0):
        assert mask.shape == shape
        assert set(np.unique(mask)) == {np.float32(0), np.float32(one)}
        assert abs((mask == 0).mean() - p_zero) < 4 * np.sqrt(p_zero * (1 - p_zero) / mask.size)
        assert mask.dtype == np.float32

    found = masks_of(NonRecurrent(0.3))
    check(found["layer 0/NonRecurrent.x"], (t, n, d), 0.3, 1 / 0.7)
    check(found["layer 0/NonRecurrent.y"], (t, n, h), 0.3, 1 / 0.7)
    check(masks_of(RNNDrop(0.3))["layer 0/RNNDrop.c"], (n, h), 0.3)
    found = masks_of(Variational(0.3, hidden=0.6))
    check(found["layer 0/Variational.x"], (n, d), 0.3, 1 / 0.7)
    check(found["layer 0/Variational.h"], (n, h), 0.6, 1 / 0.4)
    check(found["layer 0/Variational.y"], (n, h), 0.3, 1 / 0.7)
    found = masks_of(Variational(0.3, tied=False, output=0))
    assert set(found) == {"layer 0/Variational.x", "layer 0/Variational.h"}
    check(found["layer 0/Variational.h"], (4, n, h), 0.3, 1 / 0.7)
    check(masks_of(WeightDrop(0.3))["layer 0/WeightDrop.U"], (h, 4 * h), 0.3, 1 / 0.7)
    check(masks_of(Recurrent(0.3))["layer 0/Recurrent.g"], (t, n, h), 0.3, 1 / 0.7)
    check(masks_of(Recurrent(0.3, per="sequence"))["layer 0/Recurrent.g"], (n, h), 0.3, 1 / 0.7)
    found = masks_of(Zoneout(cell=0.3, hidden=0.1))
    check(found["layer 0/Zoneout.c"], (t, n, h), 0.7)
    check(found["layer 0/Zoneout.h"], (t, n, h), 0.9)


def test_masks_come_from_the_layers_own_generator():
    before = np.random.get_state()[1].copy()
    one, two, other = (rnn.GRU(D, H, dropout=Zoneout(hidden=0.5), rng=0, dropout_rng=seed)
                       for seed in (1, 1, 2))
    for name, mask in drawn(one).items():
        assert np.array_equal(mask, drawn(two)[name])
        assert not np.array_equal(mask, drawn(other)[name])
    assert np.array_equal(before, np.random.get_state()[1])
    same = [drawn(rnn.GRU(D, H, dropout=Zoneout(hidden=0.5), rng=7)) for _ in range(2)]
    assert np.array_equal(*(m["layer 0/Zoneout.h"] for m in same))


def test_dropout_does_not_change_the_initial_weights():
    plain, dropping = rnn.LSTM(D, H, 2, rng=0), rnn.LSTM(D, H, 2, rng=0, dropout=0.5)
    for a, b in zip(plain.parameters(), dropping.parameters(), strict=True):
        assert np.array_equal(a.data, b.data)


def test_the_generator_is_part_of_what_a_checkpoint_holds():
    layer = rnn.LSTM(D, H, dropout=0.5)
    state = layer.generator_state()
    first = drawn(layer)
    layer.load_generator_state(state)
    assert all(np.array_equal(mask, drawn_again) for mask, drawn_again in
               zip(first.values(), drawn(layer).values(), strict=True))
    assert rnn.LSTM(D, H).generator_state() == {}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_float32_stays_float32_and_masks_have_names(scheme):
    layer = rnn.LSTM(D, H, dropout=SCHEMES[scheme]())
    y, _ = layer(np.ones((B, T, D), np.float32))
    tape = mg.tape(y)
    for node in tape:
        for dtype in node.dtype if isinstance(node.dtype, list) else [node.dtype]:
            assert dtype == np.float32
    masks = [leaf for leaf in tape.leaves() if leaf.name and "mask" in leaf.name and "p=" in leaf.name]
    assert masks
    assert all(not leaf.requires_grad for leaf in masks)
    y.sum().backward()
    assert all(p.grad.dtype == np.float32 for p in layer.parameters())


def test_exposed_masks_cannot_be_written_to_and_given_ones_are_copied():
    layer, _, _ = make("lstm", NonRecurrent(0.5))
    masks = drawn(layer)
    with pytest.raises(ValueError, match="read-only"):
        masks["layer 0/NonRecurrent.x"][0] = 1
    given = {k: v.copy() for k, v in masks.items()}
    leaf = layer.cells[0].weight_ih
    y, _ = layer(np.ones((B, T, D)), masks=given)
    expected = mg.grad(y.sum(), leaf, retain_graph=True)[0].data
    given["layer 0/NonRecurrent.x"][:] = 0
    assert np.array_equal(mg.grad(y.sum(), leaf)[0].data, expected)


def test_some_masks_given_and_the_others_drawn():
    layer, _, _ = make("lstm", [WeightDrop(0.5), NonRecurrent(0.5)])
    ones = np.ones((T, B, D))
    layer(np.ones((B, T, D)), masks={"layer 0/NonRecurrent.x": ones})
    assert np.array_equal(layer.masks["layer 0/NonRecurrent.x"], ones)
    assert (layer.masks["layer 0/WeightDrop.U"] == 0).any()


# -- what they leave alone ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("scheme", ["non-recurrent", "variational", "untied", "weight drop", "recurrent",
                                    "recurrent, sequence"])
def test_no_mask_on_what_a_gru_carries(scheme, reset_after):
    """With z = 1 the state is carried through unchanged, whatever is dropped."""
    layer = rnn.GRU(D, H, reset_after=reset_after, dropout=SCHEMES[scheme](), dtype=np.float64, rng=0)
    bias = np.zeros(3 * H)
    bias[H:2 * H] = 1000
    layer.cells[0].bias.assign(bias)
    h = np.random.default_rng(0).normal(size=(B, H))
    _, (state,) = layer(np.ones((B, T, D)), (rnn.GRUState(mg.tensor(h)),))
    assert np.array_equal(state.h.data, h)


@pytest.mark.parametrize("scheme", ["non-recurrent", "variational", "weight drop", "recurrent"])
def test_no_mask_on_what_an_lstm_carries(scheme):
    """With f = 1 and i = 0 the cell is carried through unchanged."""
    layer = rnn.LSTM(D, H, dropout=SCHEMES[scheme](), dtype=np.float64, rng=0)
    layer.cells[0].bias.assign(np.repeat([-1000.0, 1000.0, 0.0, 0.0], H))
    c = np.random.default_rng(0).normal(size=(B, H))
    _, (state,) = layer(np.ones((B, T, D)), (rnn.LSTMState(mg.tensor(c), mg.tensor(c)),))
    assert np.array_equal(state.c.data, c)


def test_the_state_that_is_returned_has_no_output_mask():
    for scheme in (NonRecurrent(0.5), Variational(0.5)):
        layer = rnn.LSTM(D, 30, dropout=scheme, rng=0)
        layer.cells[0].bias.assign(np.ones(120))
        y, (state,) = layer(np.ones((B, T, D), np.float32))
        assert (y.data[:, -1] == 0).any()
        assert (state.h.data != 0).all()


def test_weight_drop_gradient_and_raw_weight():
    layer, _, _ = make("lstm", WeightDrop(0.5))
    U = layer.cells[0].weight_hh
    before, version = U.numpy(), U.version
    layer(np.ones((B, T, D)))[0].sum().backward()
    mask = layer.masks["layer 0/WeightDrop.U"]
    assert (U.grad[mask == 0] == 0).all()
    assert (U.grad[mask != 0] != 0).all()
    assert np.array_equal(U.data, before)
    assert U.version == version
    assert [name for name, _ in layer.cells[0].named_parameters()] == ["weight_ih", "weight_hh", "bias"]


def test_rnndrop_is_not_scaled_inside_the_recurrence():
    """An inverted mask would grow the cell by 1/k at each step: 2^35 here."""
    layer = rnn.LSTM(D, H, dropout=RNNDrop(0.5), rng=0, dtype=np.float64, compiled=False)
    plain = rnn.LSTM(D, H, rng=0, dtype=np.float64, compiled=False)
    x = np.random.default_rng(0).normal(size=(B, 35, D))
    kept = layer(x, masks={"layer 0/RNNDrop.c": np.ones((B, H))})[1][0]
    assert np.array_equal(kept.c.data, plain(x)[1][0].c.data)
    _, (state,) = layer(x)
    assert (state.c.data[layer.masks["layer 0/RNNDrop.c"] == 0] == 0).all()
    assert np.abs(state.c.data).max() < 35


def test_zoneout_keeps_old_values_and_hides_nothing_from_h():
    layer = rnn.LSTM(D, H, dropout=Zoneout(cell=0.5, hidden=0.5), rng=0, dtype=np.float64)
    plain = rnn.LSTM(D, H, rng=0, dtype=np.float64)
    rng = np.random.default_rng(0)
    x, h, c = rng.normal(size=(B, 1, D)), rng.normal(size=(B, H)), rng.normal(size=(B, H))
    state = (rnn.LSTMState(mg.tensor(h), mg.tensor(c)),)
    ones, zeros = np.ones((1, B, H)), np.zeros((1, B, H))
    _, (kept,) = layer(x, state, masks={"layer 0/Zoneout.h": ones, "layer 0/Zoneout.c": ones})
    assert np.array_equal(kept.h.data, h)
    assert np.array_equal(kept.c.data, c)
    _, (fresh,) = plain(x, state)
    _, (mixed,) = layer(x, state, masks={"layer 0/Zoneout.h": zeros, "layer 0/Zoneout.c": ones})
    assert np.array_equal(mixed.h.data, fresh.h.data), "h sees the new cell, not the zoned-out one"
    assert np.array_equal(mixed.c.data, c)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_padding_freezes_the_state_after_dropout(kind):
    schemes = [Zoneout(hidden=0.5), Recurrent(0.5), WeightDrop(0.3), Variational(0.3)]
    layer, _, _ = make(kind, schemes)
    x = np.random.default_rng(0).normal(size=(2, 6, D))
    y, (final,) = layer(x, lengths=[4, 6])
    masks = layer.masks
    short = {k: m[:4] if m.ndim == 3 else m for k, m in masks.items()}
    y4, (final4,) = layer(x[:, :4], masks=short)
    assert np.array_equal(y.data[0, :4], y4.data[0])
    assert not y.data[0, 4:].any()
    for all_steps, first_steps in zip(final, final4, strict=True):
        assert np.array_equal(all_steps.data[0], first_steps.data[0])


# -- options and errors ------------------------------------------------------------------------------------


def test_a_number_is_non_recurrent_dropout():
    layer = rnn.LSTM(D, H, 2, dropout=0.25)
    assert [type(s) for s in layer.schemes] == [NonRecurrent]
    assert set(drawn(layer)) == {"layer 0/NonRecurrent.x", "layer 1/NonRecurrent.x", "layer 1/NonRecurrent.y"}
    assert rnn.LSTM(D, H, dropout=0.0).schemes == []
    only_between = rnn.LSTM(D, H, 2, dropout=NonRecurrent(0.5, bottom=False, top=False))
    assert set(drawn(only_between)) == {"layer 1/NonRecurrent.x"}


@pytest.mark.parametrize(("layer", "scheme", "words"), [
    (rnn.GRU, RNNDrop(0.5), "RNNDrop.* is defined for LSTMCell, not for GRUCell"),
    (rnn.RNN, RNNDrop(0.5), "not for RNNCell"),
    (rnn.GRU, Zoneout(cell=0.5), "GRUCell has no c; use hidden= alone"),
    (rnn.RNN, [WeightDrop(0.1), Zoneout(cell=0.5)], "RNNCell has no c"),
    (rnn.Jordan, Recurrent(0.5), "not for JordanCell"),
    (rnn.Jordan, Zoneout(hidden=0.5), "not for JordanCell"),
])
def test_a_scheme_that_is_not_defined_for_a_cell(layer, scheme, words):
    with pytest.raises(ValueError, match=words):
        layer(D, H, dropout=scheme)


def test_weights_that_a_cell_does_not_have_cannot_be_dropped():
    class Without(rnn.RNNCell):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            del self.weight_hh

    class Layer(rnn.Recurrent):
        cell_type = Without

    with pytest.raises(ValueError, match="drops entries of weight_hh, and Without has no such weight"):
        Layer(D, H, dropout=WeightDrop(0.5))


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan"), "0.5", True])
@pytest.mark.parametrize("scheme", [NonRecurrent, RNNDrop, Variational, WeightDrop, Recurrent,
                                    lambda p: Zoneout(cell=p), lambda p: Zoneout(hidden=p), LockedDropout,
                                    lambda p: Variational(hidden=p),
                                    lambda p: EmbeddingDropout(mg.nn.Embedding(3, 2), p)])
def test_probabilities_are_checked(scheme, p):
    with pytest.raises(ValueError, match=r"probability in \[0, 1\)"):
        scheme(p)


@pytest.mark.parametrize(("make_it", "error", "words"), [
    (lambda: RNNDrop(0.5, evaluation="mean"), ValueError, "evaluation is 'reference' or 'readout'"),
    (lambda: Recurrent(0.5, per="call"), ValueError, "per is 'step' or 'sequence'"),
    (lambda: EmbeddingDropout(mg.nn.Embedding(3, 2), 0.5, per="word"), ValueError, "per is"),
    (lambda: rnn.LSTM(D, H, dropout="zoneout"), TypeError, "a probability, a scheme"),
    (lambda: rnn.LSTM(D, H, dropout=[0.5, WeightDrop(0.5)]), TypeError, "a probability, a scheme"),
    (lambda: rnn.LSTM(D, H, dropout=1.5), ValueError, "probability"),
    (lambda: Mask(0.5, 3, "step", gates=4), ValueError, "for each gate"),
])
def test_errors_at_construction(make_it, error, words):
    with pytest.raises(error, match=words):
        make_it()


def test_masks_that_do_not_fit():
    layer = rnn.LSTM(D, H, dropout=WeightDrop(0.5))
    x = np.ones((B, T, D), np.float32)
    with pytest.raises(ValueError, match=r"WeightDrop.U' has shape \(3, 3\); this call needs \(3, 12\)"):
        layer(x, masks={"layer 0/WeightDrop.U": np.ones((3, 3))})
    with pytest.raises(ValueError, match=r"no scheme uses the masks 'layer 1/WeightDrop.U'"):
        layer(x, masks={"layer 1/WeightDrop.U": np.ones((3, 12))})
    with pytest.raises(ValueError, match=r"call layer\.train"):
        layer.eval()(x, masks={"layer 0/WeightDrop.U": np.ones((3, 12))})
    with pytest.raises(ValueError, match="no scheme uses"):
        rnn.LSTM(D, H)(x, masks={"U": np.ones((3, 12))})


def test_a_scheme_says_what_it_is():
    assert repr(WeightDrop(0.5)) == "WeightDrop(p=0.5)"
    assert "p_hidden=0.05" in repr(Zoneout(cell=0.5, hidden=0.05))


def test_a_new_scheme_is_one_class():
    class Quieten(Scheme):
        """c' = f·c + m·i·g with one mask per sequence that is scaled."""

        cells = (rnn.LSTMCell,)

        def masks(self, cell, bottom, top):
            return {"g": Mask(0.5, cell.hidden_size, "sequence")}

        def candidate(self, g, m):
            return m.times("g", g)

    layer, loop, options = make("lstm", Quieten())
    masks = drawn(layer)
    assert set(masks) == {"layer 0/Quieten.g"}
    assert_like_loop(layer, loop, lookup(masks), masks=masks, **options)
    with pytest.raises(ValueError, match="Quieten"):
        rnn.GRU(D, H, dropout=Quieten())


# -- around the layers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["sequence", "call"])
def test_embedding_dropout_drops_all_occurrences_of_a_word(per):
    ids = np.array([[1, 2, 1, 3, 1], [2, 1, 3, 3, 0]])
    words = EmbeddingDropout(mg.nn.Embedding(4, 3, dtype=np.float64, rng=0), 0.5, per=per, rng=2)
    W = words.weight
    x = words(ids)
    mask = words.mask if per == "sequence" else np.broadcast_to(words.mask, (2, 4))
    assert words.mask.shape == ((2, 4) if per == "sequence" else (4,))
    assert set(np.unique(words.mask)) <= {0.0, 2.0}
    for b, t in np.ndindex(2, 5):
        assert np.array_equal(x.data[b, t], mask[b, ids[b, t]] * W.data[ids[b, t]])
    x.sum().backward()
    counts = np.zeros(4)
    for b, t in np.ndindex(2, 5):
        counts[ids[b, t]] += mask[b, ids[b, t]]
    np.testing.assert_allclose(W.grad, np.repeat(counts[:, None], 3, axis=1))
    again = words(ids, mask=words.mask)
    assert np.array_equal(again.data, x.data)
    with pytest.raises(ValueError, match="shape"):
        words(ids, mask=np.ones(5))
    assert np.array_equal(words.eval()(ids).data, W.data[ids])


def test_locked_dropout_has_one_mask_for_all_steps():
    locked = LockedDropout(0.5, rng=0)
    x = mg.tensor(np.ones((3, 4, 50), np.float32), requires_grad=True)
    y = locked(x)
    assert locked.mask.shape == (3, 1, 50)
    assert np.array_equal(y.data, np.repeat(locked.mask, 4, axis=1))
    assert np.array_equal(locked(x, mask=np.zeros((3, 1, 50))).data, np.zeros((3, 4, 50)))
    assert locked.eval()(x) is x


def test_activation_regularisation():
    h = mg.tensor(np.random.default_rng(0).normal(size=(2, 4, 3)))
    assert np.isclose(activation_regularisation(h, 2.0).item(), 2 * (h.data ** 2).mean())
    assert np.isclose(temporal_activation_regularisation(h, 3.0).item(),
                      3 * ((h.data[:, 1:] - h.data[:, :-1]) ** 2).mean())
    assert temporal_activation_regularisation(h[:, :1]).item() == 0


def test_the_recipe_of_awd_lstm():
    """Weight drop, variational dropout, word dropout, activation regularisation: Merity et al. (2018)."""
    words = EmbeddingDropout(mg.nn.Embedding(9, 6, rng=0), 0.1, per="call", rng=1)
    lstm = rnn.LSTM(6, 6, 2, dropout=[WeightDrop(0.5), Variational(input=0.3)], rng=2, compiled=False)
    locked = LockedDropout(0.4, rng=3)
    parameters = [*words.parameters(), *lstm.parameters()]
    adam = mg.optim.Adam(parameters, lr=0.02)
    ids = np.arange(40).reshape(4, 10) % 9

    def loss_of(x, targets):
        raw, _ = lstm(words(x))
        dropped = locked(raw)
        nats = mg.cross_entropy(dropped @ words.weight.T, targets)
        return nats + activation_regularisation(dropped, 2.0) + temporal_activation_regularisation(raw, 1.0)

    losses = []
    for _ in range(60):
        for p in parameters:
            p.grad = None
        loss = loss_of(ids[:, :-1], ids[:, 1:])
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
