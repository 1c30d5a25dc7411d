"""From one sequence to another: an encoder reads the source, a decoder writes the target.

    source → embedding → recurrent layers → state and outputs
    start, y_1, y_2, … → embedding → recurrent layers, from the encoder's state → output → logits of y_1, y_2,
    y_3, …

Four things that can be added to that plain form (Sutskever, Vinyals & Le 2014):

    reverse          the encoder reads the source backwards, so that its beginning is near the target's (the same)
    peeky            the encoder's last h is given to the decoder's layers and to its output at every step (Cho et
                     al. 2014)
    attention        the output also gets a context, see `Attention`
    input_feeding    the context of the step before is an input of the layers (Luong, Pham & Manning 2015)

>>> model = Seq2Seq.build(symbols=13, hidden_size=128, embedding=16, reverse=True, peeky=True)
>>> loss = model.loss(sources, targets)              # targets begin with the start symbol
>>> answers = model.answer(sources, start=12, max_length=4)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

import minigrad as mg
from minigrad import Tensor
from minigrad.nn import Embedding, Linear, Module
from minigrad.tree import tree_leaves, tree_map

from .attention import Attention
from .cells import RandomSource
from .decode import greedy
from .layers import LSTM, Recurrent, valid_steps
from .search import Step, decode

Array = NDArray[Any]


class Memory(NamedTuple):
    """What the decoder sees of the source; a part that it does not use is ().

    h (batch, S), the encoder's last output; outputs (batch, source, S); keys, see `Attention`; mask (batch,
    source), False at padding.
    """

    h: Any
    outputs: Any = ()
    keys: Any = ()
    mask: Any = ()


class DecoderState(NamedTuple):
    """What the decoder carries on: the cells' states, and with input feeding the last context (batch, S)."""

    cells: tuple[Any, ...]
    context: Any = ()


class Encoder(Module):
    """Reads the source.

    Args:
        symbols: V, how many symbols there are.
        embedding: the size of their vectors.
        recurrent: layers with this input size, which return all steps; bidirectional ones join the
            directions.
        reverse: read each sequence backwards.
        rng: for the initial values.

    `encoder(ids, lengths=None)` takes ids (batch, time) and returns (outputs (batch, time, S), state);
    outputs[:, j] belongs to ids[:, j], also in reverse.

    Raises:
        ValueError: layers that do not fit.
    """

    def __init__(self, symbols: int, embedding: int, recurrent: Recurrent, *, reverse: bool = False,
                 rng: RandomSource = None) -> None:
        _check_layers("an encoder", recurrent, embedding)
        self.symbols = symbols
        self.reverse = reverse
        self.embedding = Embedding(symbols, embedding, dtype=recurrent.dtype, rng=rng)
        self.recurrent = recurrent
        self.output_size = recurrent.output_size

    def forward(self, ids: ArrayLike, lengths: ArrayLike | None = None) -> tuple[Tensor, tuple[Any, ...]]:
        ids = _checked_ids(ids)
        if not self.reverse:
            outputs, state = self.recurrent(self.embedding(ids), None, lengths)
            return outputs, state
        backwards = _backwards(ids, lengths)
        outputs, state = self.recurrent(self.embedding(ids[backwards]), None, lengths)
        return outputs[backwards], state  # backwards twice is forwards

    def last(self, state: tuple[Any, ...]) -> Tensor:
        """The last output of the top layer (batch, S), of both directions side by side."""
        if self.recurrent.bidirectional and self.recurrent.merge == "concat":
            return mg.concatenate([state[-2][0], state[-1][0]], axis=-1)  # type: ignore[no-any-return]
        return state[-1][0]  # type: ignore[no-any-return]


class Decoder(Module):
    """Writes the target, one symbol after the other, each seen with those before it.

        x_t = [embedding(y_{t-1}), h of the source if peeky, context_{t-1} with input feeding]
        h_t = layers(x_t)
        logits_t = W [context_t with attention, h_t, h of the source if peeky] + b

    Args:
        symbols: V, how many symbols there are.
        embedding: the size of their vectors.
        recurrent: layers whose input size is the width of x_t.
        source_size: S, the width of the encoder's outputs; needed for the three options.
        peeky, input_feeding: see above.
        attention: "dot", "general", "additive" or None.
        rng: for the initial values.

    Raises:
        ValueError: layers or options that do not fit together.
    """

    def __init__(self, symbols: int, embedding: int, recurrent: Recurrent, *, source_size: int = 0,
                 peeky: bool = False, attention: str | None = None, input_feeding: bool = False,
                 rng: RandomSource = None) -> None:
        if (peeky or attention) and source_size < 1:
            raise ValueError("peeky and attention need source_size, the width of the encoder's outputs.")
        if input_feeding and not attention:
            raise ValueError("input feeding hands on the context of an attention: choose one.")
        if input_feeding and recurrent.schemes:
            raise ValueError("with input feeding the cells run in a loop of the decoder's own, which has no "
                             "dropout schemes.")
        if recurrent.bidirectional:
            raise ValueError("a decoder goes forward only: what comes next is not there yet.")
        _check_layers("a decoder", recurrent, embedding + source_size * (peeky + input_feeding))
        rng = np.random.default_rng(rng)
        self.symbols = symbols
        self.peeky = peeky
        self.input_feeding = input_feeding
        self.embedding = Embedding(symbols, embedding, dtype=recurrent.dtype, rng=rng)
        self.recurrent = recurrent
        H, dtype = recurrent.output_size, recurrent.dtype
        self.attention = Attention(attention, H, source_size, dtype=dtype, rng=rng) if attention else None
        self.output = Linear(H + source_size * (peeky + bool(attention)), symbols, dtype=dtype, rng=rng)

    def memory(self, h: Tensor, outputs: Tensor, mask: Tensor | None = None) -> Memory:
        """What `forward` and `step` need of the source, computed once."""
        if self.attention is None:
            return Memory(h)
        return Memory(h, outputs, self.attention.keys(outputs), () if mask is None else mask)

    def initial_state(self, cells: tuple[Any, ...], memory: Memory) -> DecoderState:
        """The state before the first step; the context before it is zeros."""
        if not self.input_feeding:
            return DecoderState(cells)
        return DecoderState(cells, mg.tensor(np.zeros_like(memory.h.data), name="context 0"))

    def forward(self, ids: ArrayLike, memory: Memory, state: DecoderState,
                ) -> tuple[Tensor, DecoderState, Tensor | None]:
        """Teacher forcing: the symbols (batch, time) that come in are known, so that the layers run as one
        scan.

        Returns:
            (logits (batch, time, V), state, α (batch, time, source) or None).
        """
        x = self._with_h(self.embedding(_checked_ids(ids)), memory)
        if self.input_feeding:
            h, fed, alpha, state = self._fed(x, memory, state)
            return self._logits(h, fed, memory), state, alpha
        h, cells = self.recurrent(x, state.cells)
        context, weights = self._attend(h, memory)
        return self._logits(h, context, memory), DecoderState(cells), weights

    def step(self, ids: ArrayLike, memory: Memory, state: DecoderState,
             ) -> tuple[Tensor, DecoderState, Tensor | None]:
        """One step after the symbols (batch,).

        Returns:
            (logits (batch, V), state, α (batch, source) or None).
        """
        logits, state, weights = self.forward(np.asarray(ids)[:, None], memory, state)
        return logits[:, 0], state, None if weights is None else weights[:, 0]

    def _with_h(self, x: Tensor, memory: Memory) -> Tensor:
        """x (batch, time, ·) with the source's h beside it at every step, if peeky."""
        if not self.peeky:
            return x
        h = mg.broadcast_to(memory.h[:, None], (*x.shape[:2], memory.h.shape[-1]))
        return mg.concatenate([x, h], axis=-1)  # type: ignore[no-any-return]

    def _attend(self, h: Tensor, memory: Memory) -> tuple[Tensor | None, Tensor | None]:
        if self.attention is None:
            return None, None
        mask = None if isinstance(memory.mask, tuple) else memory.mask
        return self.attention(h, memory.outputs, memory.keys, mask)  # type: ignore[no-any-return]

    def _logits(self, h: Tensor, context: Tensor | None, memory: Memory) -> Tensor:
        seen = h if context is None else mg.concatenate([context, h], axis=-1)
        return self.output(self._with_h(seen, memory))  # type: ignore[no-any-return]

    def _fed(self, x: Tensor, memory: Memory, state: DecoderState,
             ) -> tuple[Tensor, Tensor, Tensor, DecoderState]:
        """The loop where each step needs the context of the one before: attention inside the scan."""
        cells = self.recurrent.cells
        weights = [cell.weights() for cell in cells]

        def step(state: DecoderState, x: Tensor) -> tuple[DecoderState, tuple[Tensor, Tensor, Tensor]]:
            h = mg.concatenate([x, state.context], axis=-1)
            new = []
            for cell, U, s in zip(cells, weights, state.cells, strict=True):
                h, s = cell.step(cell.project(h), s, U)
                new.append(s)
            context, alpha = self._attend(h[:, None], memory)
            assert context is not None and alpha is not None
            return DecoderState(tuple(new), context[:, 0]), (h, context[:, 0], alpha[:, 0])

        state, outputs = mg.scan(step, state, mg.swapaxes(x, 0, 1))
        h, context, alpha = (mg.swapaxes(y, 0, 1) for y in outputs)
        return h, context, alpha, state


class Bridge(Module):
    """The decoder's first state where it cannot be the encoder's last: s = tanh(W h + b) for each part of
    it."""

    def __init__(self, size: int, recurrent: Recurrent, rng: RandomSource = None) -> None:
        rng = np.random.default_rng(rng)
        self.states = [cell.State for cell in recurrent.cells]
        self.layers = [[Linear(size, zero.shape[-1], dtype=recurrent.dtype, rng=rng)
                        for zero in tree_leaves(state)] for state in recurrent.initial_state(1)]

    def forward(self, h: Tensor) -> tuple[Any, ...]:
        return tuple(State(*(mg.tanh(layer(h)) for layer in layers))
                     for State, layers in zip(self.states, self.layers, strict=True))


class Seq2Seq(Module):
    """An encoder and a decoder.

    The decoder starts from the encoder's last state where both have the same cells; otherwise from a
    `Bridge`.

    Args:
        encoder, decoder: whose sizes fit.
        rng: for the coins of scheduled sampling, and for a bridge.
        carry_cell: whether an LSTM's c is taken over too. If not it begins at zero, and what the decoder knows of
            the source has come through h and attention (Saito 2018). A bridge makes c from h in any case.

    Attributes:
        attention_weights: α (batch, target steps, source steps) of the last call or answer; None without
            attention.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, rng: RandomSource = None, *,
                 carry_cell: bool = True) -> None:
        self.rng = np.random.default_rng(rng)
        self.carry_cell = carry_cell
        self.encoder = encoder
        self.decoder = decoder
        e, d = encoder.recurrent, decoder.recurrent
        same = not e.bidirectional and _layout(e) == _layout(d)
        self.bridge = None if same else Bridge(encoder.output_size, d, self.rng)
        self.attention_weights: Array | None = None

    @classmethod
    def build(cls, symbols: int, hidden_size: int, embedding: int, *, target_symbols: int | None = None,
              layer: Callable[..., Recurrent] = LSTM, num_layers: int = 1, bidirectional: bool = False,
              reverse: bool = False, peeky: bool = False, attention: str | None = None,
              input_feeding: bool = False, carry_cell: bool = True, rng: RandomSource = None,
              **options: Any) -> Seq2Seq:
        """An encoder and a decoder with layers of the same kind and size.

        Args:
            symbols: how many the sources have.
            hidden_size, embedding: the sizes of both.
            target_symbols: how many the targets have; by default the same.
            layer: rnn.LSTM, rnn.GRU, rnn.RNN; `num_layers` of it, and `options` go there.
            bidirectional: of the encoder.
            reverse, peeky, attention, input_feeding: see the module.
            carry_cell: see the class.
            rng: for everything.
        """
        rng = np.random.default_rng(rng)
        read = layer(embedding, hidden_size, num_layers, bidirectional=bidirectional, rng=rng, **options)
        encoder = Encoder(symbols, embedding, read, reverse=reverse, rng=rng)
        S = encoder.output_size
        write = layer(embedding + S * (peeky + input_feeding), hidden_size, num_layers, rng=rng, **options)
        decoder = Decoder(target_symbols or symbols, embedding, write, source_size=S, peeky=peeky,
                          attention=attention, input_feeding=input_feeding, rng=rng)
        return cls(encoder, decoder, rng, carry_cell=carry_cell)

    def encode(self, sources: ArrayLike, lengths: ArrayLike | None = None) -> tuple[Memory, DecoderState]:
        """Read sources (batch, time), padded at the end after `lengths`: what the decoder needs to begin."""
        sources = _checked_ids(sources)
        outputs, final = self.encoder(sources, lengths)
        h = self.encoder.last(final)
        mask = None
        if lengths is not None:
            _, valid = valid_steps(lengths, *sources.shape)
            mask = mg.tensor(valid.data[:, :, 0].T, name="mask")
        memory = self.decoder.memory(h, outputs, mask)
        state = final if self.bridge is None else self.bridge(h)
        if self.bridge is None and not self.carry_cell:
            state = tuple(s._replace(c=mg.tensor(np.zeros_like(s.c.data), name="c0")) if "c" in s._fields else s
                          for s in state)
        return memory, self.decoder.initial_state(state, memory)

    def forward(self, sources: ArrayLike, inputs: ArrayLike, lengths: ArrayLike | None = None,
                teacher_forcing: float = 1.0) -> Tensor:
        """Logits (batch, target steps, V) of what follows each of `inputs` (batch, target steps).

        Args:
            sources: ids (batch, source steps).
            inputs: the target without its last symbol, beginning with the start symbol.
            lengths: of the sources, if they are padded.
            teacher_forcing: the probability that a step gets the true symbol and not one drawn from what the
                model predicted at the step before (Bengio et al. 2015). Each sequence flips a coin at each
                step, with the model's `rng`. At 1 all steps are one scan. No gradient flows through the
                choice of a symbol.

        Raises:
            ValueError: teacher_forcing is not a probability, or shapes that do not fit.
        """
        if not 0 <= teacher_forcing <= 1:
            raise ValueError(f"teacher_forcing is a probability, not {teacher_forcing!r}.")
        inputs = _checked_ids(inputs)
        memory, state = self.encode(sources, lengths)
        if len(inputs) != len(memory.h):
            raise ValueError(f"{len(memory.h)} sources and {len(inputs)} targets; they are pairs.")
        if teacher_forcing == 1:
            logits, _, weights = self.decoder(inputs, memory, state)
        else:
            logits, weights = self._sampled(inputs, memory, state, teacher_forcing)
        self.attention_weights = None if weights is None else weights.data
        return logits  # type: ignore[no-any-return]

    def _sampled(self, inputs: Array, memory: Memory, state: DecoderState, p: float,
                 ) -> tuple[Tensor, Tensor | None]:
        """Step by step, each with the true symbol or the model's own."""
        layers = self.decoder.recurrent
        masks = [mask for scheme in layers.schemes for cell in layers.cells
                 for mask in scheme.masks(cell, True, True).values()]
        if layers.training and any(mask.p > 0 and mask.per != "step" for mask in masks):
            raise ValueError("scheduled sampling goes step by step, and a dropout mask for whole sequences "
                             "would be drawn at each: use a scheme with masks per step, or teacher forcing.")
        logits: list[Tensor] = []
        weights: list[Tensor] = []
        for t, symbols in enumerate(inputs.T):
            if t:
                heads = self.rng.random(len(symbols)) < p
                noise = self.rng.gumbel(size=logits[-1].shape)
                drawn = np.argmax(logits[-1].data + noise, axis=-1)  # a draw from softmax(logits)
                symbols = np.where(heads, symbols, drawn)
            with mg.scope(f"t = {t + 1}", step=t + 1):
                y, state, alpha = self.decoder.step(symbols, memory, state)
            logits.append(y)
            if alpha is not None:
                weights.append(alpha)
        return mg.stack(logits, axis=1), mg.stack(weights, axis=1) if weights else None

    def loss(self, sources: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None,
             teacher_forcing: float = 1.0, ignore_index: int | None = None) -> Tensor:
        """Mean cross-entropy of each symbol of `targets` (batch, time) but the first, which is the start
        symbol.

        Args:
            sources, lengths, teacher_forcing: see `forward`.
            targets: ids that begin with the start symbol.
            ignore_index: a symbol, of padding, that does not count.
        """
        targets = _checked_ids(targets)
        if targets.shape[1] < 2:
            raise ValueError("a target is the start symbol and at least one more.")
        logits = self(sources, targets[:, :-1], lengths, teacher_forcing)
        loss: Tensor = mg.cross_entropy(logits, targets[:, 1:], ignore_index=ignore_index)
        return loss

    def begin(self, sources: ArrayLike, lengths: ArrayLike | None = None) -> tuple[Step, Any]:
        """A step function and its first state, for `rnn.search.decode` and `beam_search`: nothing is
        recorded.

        Dropout is as the model's mode has it: call `model.eval()` first.
        """
        def step(symbols: Array, state: Any) -> tuple[Array, Any]:
            memory, own = state[:2]
            with mg.no_grad():
                logits, own, alpha = self.decoder.step(symbols, memory, own)
            return logits.data, (memory, own, () if alpha is None else alpha)

        with mg.no_grad():
            memory, state = self.encode(sources, lengths)
        return step, (memory, state, ())

    def answer(self, sources: ArrayLike, start: int, max_length: int, end: int | None = None,
               lengths: ArrayLike | None = None, choose: Callable[[Array], Any] = greedy) -> list[list[int]]:
        """Write a target for each source, in evaluation mode.

        Args:
            sources, lengths: see `forward`.
            start: the start symbol.
            max_length: how many symbols at most.
            end: the symbol that ends a target; it is not part of the answer.
            choose: how to choose a symbol, see `rnn.decode`.
        """
        training = self.training
        self.eval()
        seen: list[Array] = []
        try:
            first, state = self.begin(sources, lengths)

            def step(symbols: Array, state: Any) -> tuple[Array, Any]:
                logits, state = first(symbols, state)
                if not isinstance(state[2], tuple):
                    seen.append(state[2].data)
                return logits, state

            answers = decode(step, state, np.full(len(state[0].h), start), max_length, choose, end)
        finally:
            self.train(training)
        self.attention_weights = np.stack(seen, axis=1) if seen else None
        return answers


def _layout(recurrent: Recurrent) -> list[Any]:
    """What must be equal for a state to be taken over."""
    return [(type(s), tree_map(lambda z: z.shape, s)) for s in recurrent.initial_state(1)]


def _check_layers(what: str, recurrent: Recurrent, width: int) -> None:
    if recurrent.input_size != width:
        raise ValueError(f"{what}'s layers get inputs of size {width}; these take {recurrent.input_size}.")
    if recurrent.stateful:
        raise ValueError(f"{what} begins anew with each source; stateful layers go on from the last one.")
    if not recurrent.return_sequences or (recurrent.bidirectional and recurrent.merge != "concat"):
        raise ValueError(f"{what} needs layers that return all steps, and two directions side by side.")


def _checked_ids(ids: ArrayLike) -> Array:
    array = np.asarray(getattr(ids, "data", ids))
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"symbols come as ids (batch, time), got shape {array.shape}.")
    return array


def _backwards(ids: Array, lengths: ArrayLike | None) -> Any:
    """The index of (batch, time) that turns each sequence round within its length."""
    if lengths is None:
        return slice(None), slice(None, None, -1)
    batch, time = ids.shape
    ends = valid_steps(lengths, batch, time)[0][:, None]
    steps = np.arange(time)[None]
    return np.arange(batch)[:, None], np.where(steps < ends, ends - 1 - steps, steps)
