"""The promises P1 to P12: each has tests with its number in their names, here those that need both packages."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import rnn
from minigrad.check import AnomalyError
from minigrad.recording import LOCAL, watching
from rnn.cli import main
from rnn.language_model import LanguageModel
from rnn.runs import RunFolder
from rnn.text import Batches
from rnn.train import NonFiniteError, Trainer

HERE = Path(__file__).parent


def leaf(*shape: int, name: str | None = None) -> mg.Tensor:
    values = np.arange(1.0, 1 + int(np.prod(shape, dtype=int))).reshape(shape)
    return mg.tensor(values, requires_grad=True, name=name)


def test_every_promise_has_a_test() -> None:
    names = " ".join(re.findall(r"def (test_\w+)", "".join(p.read_text(encoding="utf-8")
                                                          for p in HERE.rglob("test_*.py"))))
    assert [n for n in range(1, 13) if not re.search(rf"_P{n}_", names)] == []


# ------------------------------------------------------------------------------------------------------------
# P1, P2, P5: a long training
# ------------------------------------------------------------------------------------------------------------


def small_steps(count: int) -> int:
    """Objects that so many steps of a small training leave behind, beside those that Python keeps to use again."""
    W, b = leaf(3, 3), leaf(3)
    adam, x = mg.optim.Adam([W, b], lr=1e-3), np.ones((2, 3))

    def step() -> None:
        adam.zero_grad()
        np.mean((np.tanh(x @ W + b) - 0.5) ** 2).backward()
        adam.step()

    for _ in range(2200):  # until Python's own free lists, of 2000 tuples each, are full
        step()
    before = sys.getallocatedblocks()
    for _ in range(count):
        step()
    return sys.getallocatedblocks() - before


@pytest.mark.no_cover
def test_P1_training_does_not_grow() -> None:
    assert small_steps(500) < 100


@pytest.mark.slow
def test_P1_a_hundred_thousand_steps_do_not_grow() -> None:
    assert small_steps(100_000) < 100


def trainer_steps(compiled: Any, count: int) -> tuple[int, int]:
    """The same of a language model's trainer, with dropout, a carried state, clipping, Adam and validation; and how
    many objects wait for the collector of cycles after some steps without it.
    """
    ids = np.random.default_rng(0).integers(0, 5, 60)
    layer = rnn.LSTM(3, 4, dropout=0.3, rng=1, dropout_rng=3, compiled=compiled)
    model = LanguageModel(5, layer, 3, rng=2)
    one = Trainer(model, mg.optim.Adam(model.parameters(), lr=1e-3), Batches(ids, 2, 3), clip_norm=1.0, valid=ids[:20])

    def steps(number: int) -> None:
        for k in range(number):
            one.step()
            if k % 100 == 0:
                one.validate()

    steps(150)
    gc.collect()  # empties Python's own free lists too
    before = sys.getallocatedblocks()
    gc.disable()
    try:
        steps(100)
        cycles = gc.collect()
    finally:
        gc.enable()
    steps(count)
    gc.collect()
    return sys.getallocatedblocks() - before, cycles


@pytest.mark.no_cover
@pytest.mark.parametrize("compiled", [False, "numpy"])
def test_P1_training_a_language_model_does_not_grow(compiled: Any) -> None:
    grown, cycles = trainer_steps(compiled, 200)
    assert grown < 250 and cycles == 0


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, "auto"])
def test_P1_a_hundred_thousand_steps_of_a_language_model_do_not_grow(compiled: Any) -> None:
    grown, cycles = trainer_steps(compiled, 100_000)
    assert grown < 1000 and cycles == 0


# ------------------------------------------------------------------------------------------------------------
# P7: operands that look like arrays
# ------------------------------------------------------------------------------------------------------------

MASKED = np.ma.masked_array([1.0, 2.0, 3.0], [False, True, False])


@pytest.mark.parametrize("act", [
    lambda t: t * MASKED, lambda t: MASKED * t, lambda t: np.multiply(MASKED, t), lambda t: np.ma.add(MASKED, t),
    lambda t: t @ MASKED, lambda t: np.stack([t, MASKED]), lambda t: np.where(MASKED > 1, t, 0.0),
    lambda t: t[MASKED > 1], lambda t: MASKED.copy().__iadd__(t), lambda t: np.ma.masked_array(t, [1, 0, 0]),
    lambda t: MASKED.copy().__setitem__(slice(None), t), lambda t: mg.tensor(MASKED), lambda t: t.assign(MASKED),
    lambda t: (t * 2.0).backward(MASKED)], ids=range(14))
def test_P7_masked_arrays_lose_neither_mask_nor_graph_in_silence(act: Any) -> None:
    t = leaf(3)
    with pytest.raises(TypeError, match=r"mask|plain array"):
        act(t)
    assert t.grad is None and (t * 1.0).requires_grad


def test_P7_a_matrix_multiplies_differently() -> None:
    with pytest.warns(PendingDeprecationWarning):
        m = np.matrix([[1.0, 2.0, 3.0]])
    for act in (lambda: leaf(3) * m, lambda: m * leaf(3)):
        with pytest.raises(TypeError, match=r"np\.asarray"):
            act()


# ------------------------------------------------------------------------------------------------------------
# P8: anomalies in the user's words; states of threads
# ------------------------------------------------------------------------------------------------------------


def test_P8_anomaly_mode_names_the_operation_its_scope_and_ranges() -> None:
    x = leaf(3, name="x")
    with np.errstate(all="ignore"), mg.anomaly_mode(), mg.scope("encoder"):
        with pytest.raises(AnomalyError) as caught:
            np.log(x - 2.0)
        for word in ("log", "'encoder'", "[3]", "[-1, 1]", "not finite"):
            assert word in str(caught.value)
    with mg.scope("decoder"):
        y = np.sqrt(x - 1.0)  # 0 at the first entry
    with mg.anomaly_mode(), pytest.raises(AnomalyError) as caught:
        (y * 2.0 + (x - 1.0) * 0.0).sum().backward()
        (np.sqrt((x - 1.0) * 1.0) * 2.0).sum().backward()
    for word in ("gradient", "subtract", "not finite"):
        assert word in str(caught.value)
    assert LOCAL.state.watchers == () and LOCAL.state.recording


def test_P8_anomaly_mode_sees_infinite_losses_and_lets_what_is_finite_pass() -> None:
    x = leaf(2)
    with mg.anomaly_mode():
        np.sum(np.exp(x)).backward()
    with np.errstate(over="ignore"), mg.anomaly_mode(), pytest.raises(AnomalyError, match="exp"):
        np.exp(x * 1000.0)
    with np.errstate(over="ignore"):
        assert np.isinf(np.exp(x * 1000.0).data).all()  # outside nothing is looked at


@pytest.mark.parametrize("where", ["forward", "backward", "watcher", "scan", "grad of grad"])
def test_P8_an_exception_anywhere_leaves_no_global_state(where: str) -> None:
    x, before = leaf(3), np.geterr()

    def boom(*_: Any) -> Any:
        raise ZeroDivisionError

    inner = mg.no_grad() if where == "forward" else mg.scope("t")
    with pytest.raises((ZeroDivisionError, ValueError)), mg.scope("s"), inner:
        if where == "forward":
            x @ np.ones((2, 2))
        elif where == "scan":
            mg.scan(lambda h, v: boom(), mg.tensor(0.0), x)
        else:
            y = (x * x).sum()
            with watching(lambda phase, *rest: boom() if phase == "backward" or where == "watcher" else None):
                mg.grad(y * 1.0, x, create_graph=where == "grad of grad")
    state = LOCAL.state
    assert (state.recording, state.scope, state.watchers, state.tracing) == (True, None, (), False)
    assert np.geterr() == before
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, 2 * x.data)


def test_P8_threads_have_their_own_state() -> None:
    seen: list[tuple[bool, Any, Any]] = []

    def look() -> None:
        state = LOCAL.state
        seen.append((state.recording, state.scope, state.watchers))
        with mg.scope("inner"), mg.no_grad():
            pass

    with mg.no_grad(), mg.scope("outer"), mg.anomaly_mode():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert LOCAL.state.scope.path == "outer" and not LOCAL.state.recording and LOCAL.state.watchers
    assert seen == [(True, None, ())]


# ------------------------------------------------------------------------------------------------------------
# P9 to P12
# ------------------------------------------------------------------------------------------------------------


def test_P9_a_compiled_scan_gives_the_numbers_of_the_eager_one() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 3)).astype(np.float32)
    found = []
    for compiled in (False, "numpy"):
        layer = rnn.GRU(3, 4, rng=0, compiled=compiled)
        y, _ = layer(mg.tensor(x))
        np.mean(y * y).backward()
        found.append([y.data, *(p.grad for p in layer.parameters())])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_P10_masks_are_read_after_a_call_and_given_to_the_next() -> None:
    x = mg.tensor(np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32))
    layer = rnn.LSTM(3, 4, dropout=rnn.dropout.Variational(0.4), rng=0, dropout_rng=1, compiled=False)
    y, _ = layer(x)
    masks = layer.masks
    z, _ = layer(x)
    assert not np.array_equal(y.data, z.data)  # drawn anew
    again, _ = layer(x, masks=masks)
    np.testing.assert_array_equal(y.data, again.data)
    layer.eval()
    assert (x @ layer.parameters()[0]).requires_grad  # evaluation has nothing to do with recording


def trainer(**more: Any) -> Trainer:
    ids = np.random.default_rng(0).integers(0, 6, 200)
    model = LanguageModel(6, rnn.LSTM(4, 5, dropout=0.3, rng=1, dropout_rng=3), 4, rng=2)
    return Trainer(model, mg.optim.Adam(model.parameters(), lr=0.01), Batches(ids, 2, 8), clip_norm=1.0, **more)


def test_P11_a_resumed_training_has_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, first, second = trainer(), trainer(), trainer()
    expected = [whole.step() for _ in range(6)]
    steps = [first.step() for _ in range(3)]
    mg.save(tmp_path / "c.npz", first.state_dict())
    second.load_state_dict(mg.load(tmp_path / "c.npz"))
    assert steps + [second.step() for _ in range(3)] == expected
    for a, b in zip(whole.model.parameters(), second.model.parameters()):
        np.testing.assert_array_equal(a.data, b.data)


def test_P11_global_random_numbers_are_neither_used_nor_changed() -> None:
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    weights = []
    for seed in (1, 2):
        np.random.seed(seed)
        one = trainer()
        one.step()
        weights.append([p.numpy() for p in one.model.parameters()])
    for a, b in zip(*weights):
        np.testing.assert_array_equal(a, b)
    np.random.seed(5)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_P11_the_same_seed_gives_the_same_bits_in_another_process(tmp_path: Path) -> None:
    """The same machine and number of threads; with another number the last bits of sums may differ."""
    code = ("import tests.test_promises as t, zlib; s = t.trainer(); [s.step() for _ in range(3)]; "
            "print([zlib.crc32(p.data.tobytes()) for p in s.model.parameters()])")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HERE.parent, check=True,
                          env={**os.environ, "PYTHONHASHSEED": "5"}).stdout
    here = trainer()
    for _ in range(3):
        here.step()
    assert said.strip() == str([zlib.crc32(p.data.tobytes()) for p in here.model.parameters()])


def test_P11_a_note_where_threads_differ(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(RunFolder, "picture", lambda *_: [])
    text = tmp_path / "t.txt"
    text.write_text("the quick brown fox. " * 20)
    run = str(tmp_path / "run")
    assert main(["train", str(text), "--hidden", "4", "--batch", "2", "--time", "6", "--steps", "1", "--run", run]) == 0
    path = next((tmp_path / "run").glob("checkpoint-*.npz"))
    tree = mg.load(path)
    mg.save(path, {**tree, "threads": 4096})
    assert main(["train", "--resume", run, "--steps", "2"]) == 0
    said = capsys.readouterr().err
    assert "used 4096 before" in said and "last bits may differ" in said


def test_P12_the_trainer_says_which_step_and_parameter_and_keeps_the_good_weights() -> None:
    one = trainer()
    one.step()
    good = [p.numpy() for p in one.model.parameters()]
    loss = one.model.loss
    one.model.loss = lambda *a: ((v := loss(*a))[0] * np.inf, v[1])
    with pytest.raises(NonFiniteError, match="step 2: the loss is inf"):
        one.step()
    for p, value in zip(one.model.parameters(), good):
        np.testing.assert_array_equal(p.data, value)


def test_P12_dropout_of_a_single_number() -> None:
    x = mg.tensor(1.0, requires_grad=True)
    y = mg.dropout(x, 0.5, np.random.default_rng(0))
    y.backward()
    assert y.shape == () and y.item() == x.grad.item()
