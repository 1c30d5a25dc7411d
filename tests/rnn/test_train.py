"""The trainer and its loop: learning, clipping, schedules, what is not finite, going on, signals."""

import itertools
import math
import os
import signal
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import rnn
from rnn.decode import generate, greedy
from rnn.language_model import LanguageModel
from rnn.text import Batches, TextError, Vocabulary
from rnn.train import CosineToTheEnd, Interrupts, NonFiniteError, Observer, Plan, Trainer, fit

V = 8
TEXT = np.random.default_rng(0).integers(0, V, 300)


def make(text=TEXT, kind=rnn.LSTM, lr=0.01, batch=4, time=10, dropout=0.0, schedule=None,
         optimiser=mg.optim.Adam, **more):
    model = LanguageModel(V, kind(5, 8, dropout=dropout or None, rng=1, dropout_rng=3), 5, rng=2)
    optimiser = optimiser(model.parameters(), lr=lr)
    if schedule is not None:
        more["schedule"] = schedule(optimiser)
    return Trainer(model, optimiser, Batches(text, batch, time), **more)


def weights(trainer):
    return {name: p.numpy() for name, p in trainer.model.named_parameters()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


class Notes(Observer):
    """Writes down what it is told."""

    def __init__(self, at=None, then=None):
        self.lines, self.saves, self.samples = [], [], []
        self.at, self.then = at, then

    def stepped(self, trainer, step):
        if trainer.steps == self.at:
            self.then()

    def measured(self, trainer, record):
        self.lines.append(record)

    def save(self, trainer, best):
        self.saves.append((trainer.steps, best))

    def sample(self, trainer):
        self.samples.append(trainer.steps)


# ----------------------------------------------------------------------------------------------------------
# learning
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "Quick zephyrs blow, vexing daft Jim.\n",
    "별을 헤는 밤 古池や蛙飛びこむ 👩‍🚀 a\u0301 🇰🇷!\n",
])  # fmt: skip
def test_a_small_text_is_learned_by_heart(text):
    vocabulary = Vocabulary.from_text(text)
    ids = vocabulary.encode(text * 30)
    size = len(vocabulary)
    model = LanguageModel(size, rnn.LSTM(size, 48, rng=0), rng=1)
    trainer = Trainer(model, mg.optim.Adam(model.parameters(), lr=0.02), Batches(ids, 4, 20), clip_norm=5.0)
    losses = [trainer.step().loss for _ in range(100)]
    assert losses[0] == pytest.approx(math.log(size), rel=0.05)
    assert np.mean(losses[-5:]) < 0.1
    written = itertools.islice(generate(model, vocabulary.encode("\n"), greedy), len(ids) // 30)
    assert vocabulary.decode(list(written)) == text


def test_the_state_is_carried_within_an_epoch_and_no_further():
    trainer = make(lr=0.0, optimiser=mg.optim.SGD)
    losses = [trainer.step().loss for _ in range(2 * len(trainer.batches))]
    epochs = np.reshape(losses, (2, -1))
    np.testing.assert_array_equal(epochs[0], epochs[1])  # nothing was learned, so only the state could differ
    length = len(trainer.batches) * 10
    rows = [TEXT[r * length : r * length + length + 1] for r in range(4)]
    whole, _ = trainer.model.loss(np.stack([r[:-1] for r in rows]), np.stack([r[1:] for r in rows]))
    assert np.mean(epochs[0]) == pytest.approx(whole.item(), rel=1e-5)


def test_the_state_holds_no_graph():
    trainer = make()
    trainer.step()
    assert all(leaf.node is None for leaf in mg.tree.tree_leaves(trainer.state))


@pytest.mark.parametrize("settings", [{"clip_norm": 1e-3}, {"clip_value": 1e-5}, {}])
def test_clipping(settings):
    trainer = make(lr=1.0, optimiser=mg.optim.SGD, **settings)
    before = weights(trainer)
    step = trainer.step()
    change = [before[name] - after for name, after in weights(trainer).items()]
    norm = math.sqrt(sum(float((c.astype(np.float64) ** 2).sum()) for c in change))
    if "clip_norm" in settings:
        assert step.clipped and norm == pytest.approx(1e-3, rel=1e-2) and step.norm > 1e-3
    elif "clip_value" in settings:
        assert step.clipped and max(np.abs(c).max() for c in change) == pytest.approx(1e-5, rel=1e-2)
    else:
        assert not step.clipped and norm == pytest.approx(step.norm, rel=1e-3)
    assert not make(clip_norm=1e3).step().clipped and not make(clip_value=1e3).step().clipped


def test_schedules_by_epoch_by_step_and_at_a_plateau():
    by_epoch = make(schedule=lambda o: mg.optim.ExponentialLR(o, 0.5))
    rates = [by_epoch.optimiser.lr for _ in range(15) if by_epoch.step()]
    assert rates == [0.01] * 6 + [0.005] * 7 + [0.0025] * 2  # seven windows an epoch
    by_step = make(schedule=lambda o: mg.optim.CosineLR(o, 4), period="step")
    assert [by_step.optimiser.lr for _ in range(5) if by_step.step()] == pytest.approx(
        [0.01 * (1 + math.cos(math.pi * k / 4)) / 2 for k in (1, 2, 3, 4, 4)])
    plateau = make(lr=0.0, valid=TEXT[:50], schedule=lambda o: mg.optim.PlateauLR(o))
    for _ in range(7):
        plateau.step()
    assert plateau.schedule.best == plateau.validate().nats


def test_settings_that_do_not_go_together():
    with pytest.raises(ValueError, match="not both"):
        make(clip_norm=1.0, clip_value=1.0)
    with pytest.raises(ValueError, match="plateau"):
        make(schedule=lambda o: mg.optim.PlateauLR(o))
    with pytest.raises(ValueError, match="no text for validation"):
        make().validate()
    with pytest.raises(TextError, match="too short"):
        make(text=TEXT[:20])


# ----------------------------------------------------------------------------------------------------------
# what is not finite
# ----------------------------------------------------------------------------------------------------------


def poisoned(how=lambda value, model: value * np.inf, **more):
    """A trainer whose second window leads to a loss that is changed."""
    trainer = make(lr=0.01, **more)
    trainer.step()
    loss = trainer.model.loss

    def bad(*args):
        trainer.model.loss = loss
        value, state = loss(*args)
        return how(value, trainer.model), state

    trainer.model.loss = bad
    return trainer


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_loss_that_is_not_finite_stops_and_changes_nothing(dropout):
    trainer = poisoned(dropout=dropout)
    good, place = weights(trainer), trainer.batches.position
    with pytest.raises(NonFiniteError, match="step 2: the loss is inf"):
        trainer.step()
    assert_same(good, weights(trainer))
    assert (trainer.steps, trainer.batches.position) == (1, place)
    twin = make(lr=0.01, dropout=dropout)
    twin.step()
    assert trainer.step() == twin.step()  # and goes on as if nothing had been


def test_or_is_skipped():
    trainer = poisoned(non_finite="skip")
    good = weights(trainer)
    step = trainer.step()
    assert step.skipped and trainer.skipped == 1 and trainer.state is None
    assert_same(good, weights(trainer))
    assert not trainer.step().skipped and trainer.steps == 3


@pytest.mark.parametrize("clip", [{}, {"clip_norm": 5.0}, {"clip_value": 5.0}])
def test_a_gradient_that_is_not_finite_is_named(clip):
    def how(value, model):  # the slope of a root at 0 is infinite
        return value + np.sqrt(np.sum(model.output.bias * 0.0))

    trainer = poisoned(how, **clip)
    good = weights(trainer)
    with pytest.raises(NonFiniteError, match=r"step 2: .*'bias'"):
        trainer.step()
    assert_same(good, weights(trainer))


# ----------------------------------------------------------------------------------------------------------
# going on
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, optimiser, schedule, period", [
    (rnn.LSTM, mg.optim.Adam, lambda o: mg.optim.CosineLR(o, 20), "step"),
    (rnn.GRU, mg.optim.RMSprop, lambda o: mg.optim.ExponentialLR(o, 0.9), "epoch"),
    (rnn.RNN, mg.optim.Adagrad, lambda o: mg.optim.PlateauLR(o), "epoch"),
    (rnn.LSTM, mg.optim.SGD, None, "epoch"),
])  # fmt: skip
def test_interrupted_and_resumed_is_the_same_as_uninterrupted(tmp_path, kind, optimiser, schedule, period):
    def new():
        return make(kind=kind, optimiser=optimiser, schedule=schedule, period=period, dropout=0.3,
                    clip_norm=0.5, valid=TEXT[:60])

    whole = new()
    steps = [whole.step() for _ in range(20)]
    for cut in (1, 7, 13):  # within an epoch, and at its end
        first = new()
        before = [first.step() for _ in range(cut)]
        mg.save(tmp_path / "saved.npz", first.state_dict())
        second = new()
        second.load_state_dict(mg.load(tmp_path / "saved.npz"))
        assert before + [second.step() for _ in range(20 - cut)] == steps
        assert_same(weights(second), weights(whole))
        assert second.optimiser.lr == whole.optimiser.lr and second.epoch == whole.epoch
        for a, b in zip(mg.tree.tree_leaves(second.state), mg.tree.tree_leaves(whole.state)):
            np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize("other", [
    {"kind": rnn.GRU}, {"optimiser": mg.optim.SGD}, {"text": TEXT[:200]}, {"batch": 2}, {"time": 5},
    {"schedule": lambda o: mg.optim.ExponentialLR(o, 0.9)},
])  # fmt: skip
def test_a_state_that_does_not_fit_changes_nothing(other):
    saved = make(**other)
    saved.step()
    trainer = make()
    trainer.step()
    before, place = weights(trainer), trainer.batches.position
    with pytest.raises(ValueError):
        trainer.load_state_dict(saved.state_dict())
    assert_same(before, weights(trainer))
    assert (trainer.batches.position, trainer.steps) == (place, 1)


def test_a_damaged_state_changes_nothing():
    trainer = make()
    trainer.step()
    for name, value in (("state", [1]), ("optimiser", None), ("steps", "x"), ("generators", {"x": 1})):
        with pytest.raises(ValueError):
            trainer.load_state_dict({**make().state_dict(), name: value})
        assert trainer.steps == 1
    with pytest.raises(ValueError, match="nothing else"):
        trainer.load_state_dict({})


# ----------------------------------------------------------------------------------------------------------
# the loop
# ----------------------------------------------------------------------------------------------------------


def test_fit_looks_when_it_is_time():
    trainer, notes = make(valid=TEXT[:60]), Notes()
    assert fit(trainer, Plan(steps=25, valid_every=10, sample_every=6, log_every=4), notes) == "steps"
    assert [line["step"] for line in notes.lines] == [4, 8, 10, 12, 16, 20, 24, 25]
    assert [line["step"] for line in notes.lines if "valid" in line] == [10, 20, 25]
    assert notes.samples == [6, 12, 18, 24]
    assert [step for step, _ in notes.saves] == [10, 20, 25]
    best = min(line["valid"] for line in notes.lines if "valid" in line)
    assert trainer.best == best
    assert notes.lines[0].keys() == {"step", "epoch", "loss", "norm", "clipped", "skipped", "lr", "seconds"}


def test_what_is_written_at_a_step_comes_before_its_checkpoint_and_once():
    """Who goes on from the checkpoint does not come by that step again."""
    trainer, events = make(valid=TEXT[:60]), []
    notes = Notes()
    notes.measured = lambda trainer, record: events.append(("line", trainer.steps))
    notes.sample = lambda trainer: events.append(("sample", trainer.steps))
    notes.save = lambda trainer, best: events.append(("save", trainer.steps))
    assert fit(trainer, Plan(steps=4, valid_every=2, sample_every=2, log_every=9), notes) == "steps"
    assert events == [(what, step) for step in (2, 4) for what in ("line", "sample", "save")]


def test_fit_without_validation_and_out_of_time():
    notes = Notes()
    trainer = make()
    assert fit(trainer, Plan(steps=None, seconds=0.0), notes) == "seconds"
    assert notes.saves == [(1, False)] and trainer.steps == 1  # time runs from the end of the first step
    assert fit(trainer, Plan(steps=3, seconds=1e9, save_seconds=-1), notes) == "steps"
    assert [step for step, _ in notes.saves[1:]] == [2, 3, 3]


def test_the_first_step_may_have_to_compile_which_is_no_time_of_training(monkeypatch):
    clock, trainer = [0.0], make()
    monkeypatch.setattr("rnn.train.time.monotonic", lambda: clock[0])
    step = trainer.step

    def slow() -> Any:
        clock[0] += 1.0 if trainer.steps else 100.0
        return step()

    monkeypatch.setattr(trainer, "step", slow)
    assert fit(trainer, Plan(steps=None, seconds=3.0, save_seconds=1e9), Notes()) == "seconds"
    assert trainer.steps == 4 and clock[0] == 103.0


def test_a_cosine_comes_down_with_the_plan(monkeypatch):
    by_steps, notes = make(schedule=CosineToTheEnd, period="step"), Notes()
    fit(by_steps, Plan(steps=4, log_every=1), notes)
    rates = [0.01 * (1 + math.cos(math.pi * k / 4)) / 2 for k in (1, 2, 3, 4)]
    assert [line["lr"] for line in notes.lines[:4]] == pytest.approx(rates)

    clock = itertools.count(0.0, 1.0)  # a second each time it is looked at
    monkeypatch.setattr("rnn.train.time.monotonic", lambda: next(clock))
    by_time, notes = make(schedule=CosineToTheEnd, period="step"), Notes()
    assert fit(by_time, Plan(steps=None, seconds=40.0, log_every=1), notes) == "seconds"
    rates = [line["lr"] for line in notes.lines]
    assert rates == sorted(rates, reverse=True) and rates[0] > 0.0099 and rates[-1] < 0.001


def test_fit_saves_what_was_good_before_it_stops():
    notes = Notes()
    with pytest.raises(NonFiniteError):
        fit(poisoned(), Plan(steps=9), notes)
    assert notes.saves == [(1, False)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_with_a_checkpoint(number):
    before = signal.getsignal(number)
    notes = Notes(at=3, then=lambda: os.kill(os.getpid(), number))
    with Interrupts() as interrupts:
        assert fit(make(valid=TEXT[:60]), Plan(steps=100), notes, interrupts) == number.name
    assert notes.saves == [(3, False)] and "valid" not in notes.lines[-1]
    assert signal.getsignal(number) is before


def test_a_second_signal_is_not_held_back():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        second_signal()
    finally:
        signal.signal(signal.SIGINT, before)


def second_signal():
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.received is signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second one did nothing")


def test_skipped_steps_leave_no_numbers_in_the_metrics():
    notes = Notes()
    trainer = poisoned(non_finite="skip")
    fit(trainer, Plan(steps=2, log_every=1), notes)
    assert "loss" not in notes.lines[0] and notes.lines[0]["skipped"] == 1
