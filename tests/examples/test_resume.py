"""Long runs of the examples can be stopped: what is done is kept beside the figures, and the next run goes on."""

import argparse
import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
import rnn
from rnn.pairs import PairBatches, Pairs, addition

COMMON = Path(__file__).parents[2] / "examples" / "common.py"


@pytest.fixture(scope="module")
def common():
    """The module that the examples share, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("common_of_the_examples", COMMON)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("full", [True, False])
def test_a_result_is_computed_once(common, tmp_path, full, capsys):
    calls = []

    def make(x):
        calls.append(x)
        return [x, x + 0.5]

    a = argparse.Namespace(out=tmp_path, seed=3, full=full, data=None)
    assert common.once(a, "04_copy memory_GRU, reset before", make, 1.0) == [1.0, 1.5]
    assert common.once(a, "04_copy memory_GRU, reset before", make, 1.0) == [1.0, 1.5]
    assert len(calls) == (1 if full else 2)
    assert [path.name for path in tmp_path.iterdir()] == ["04_copy_memory_GRU_reset_before_seed_3.npz"] * full
    assert ("of an earlier run" in capsys.readouterr().out) == full


def test_another_seed_or_text_is_another_file(common, tmp_path):
    a = [argparse.Namespace(out=tmp_path, seed=seed, full=True, data=data) for seed in (0, 1)
         for data in (None, "texts/one.txt", "texts/two.txt")]
    assert len({common.kept(one, "07") for one in a}) == 6
    assert len({common.kept(argparse.Namespace(out=tmp_path, seed=0), "04")}) == 1  # an example without --data


def test_a_training_goes_on_bit_for_bit(common, tmp_path, capsys):
    data = Pairs.from_text(addition(100, 2, rng=0))

    def training():
        model = rnn.Seq2Seq.build(len(data.vocabulary), 8, 4, layer=rnn.LSTM, rng=0, compiled=False)
        return {"model": model, "adam": mg.optim.Adam(model.parameters(), lr=1e-2), "batches": PairBatches(data, 30, 0)}

    def epoch(parts):
        for batch in itertools.islice(parts["batches"], len(parts["batches"])):
            parts["adam"].zero_grad()
            loss = parts["model"].loss(batch.questions, batch.answers, teacher_forcing=0.5)  # draws random numbers
            loss.backward()
            parts["adam"].step()
        return loss.item()

    straight, path = training(), tmp_path / "training.npz"
    assert common.load_training(path, straight) == [] and not capsys.readouterr().out
    curve = [epoch(straight)]
    common.save_training(path, straight, curve)
    curve.append(epoch(straight))
    resumed = training()
    again = common.load_training(path, resumed)
    assert again == curve[:1] and "after epoch 1" in capsys.readouterr().out
    assert epoch(resumed) == curve[1]
    for p, q in zip(straight["model"].parameters(), resumed["model"].parameters(), strict=True):
        assert np.array_equal(p.data, q.data)
