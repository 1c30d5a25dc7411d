"""The training curves that stand beside published ones can be stopped after any epoch, and go on bit for bit."""

import pytest

from benchmarks import seq2seq_curves
from rnn.pairs import Pairs, addition

PEEKY = ["reversed, peeky"]


def rows(printed):
    """Epoch, loss and accuracy of each line of a curve, without the times."""
    return [line.split()[:3] for line in printed.splitlines() if line[:5].strip().isdigit()]


def test_a_curve_goes_on_where_it_was(tmp_path, capsys):
    pairs = Pairs.from_text(addition(450, rng=0))
    seq2seq_curves.train("addition", pairs, 3, PEEKY, compiled=False)
    straight = rows(capsys.readouterr().out)
    assert [row[0] for row in straight] == ["1", "2", "3"] and len({row[1] for row in straight}) == 3
    seq2seq_curves.train("addition", pairs, 1, PEEKY, tmp_path, compiled=False)
    assert rows(capsys.readouterr().out) == straight[:1]
    seq2seq_curves.train("addition", pairs, 3, PEEKY, tmp_path, compiled=False)
    assert rows(capsys.readouterr().out) == straight
    seq2seq_curves.train("addition", pairs, 2, PEEKY, tmp_path, compiled=False)  # shown, nothing learned
    assert rows(capsys.readouterr().out) == straight
    with pytest.raises(ValueError, match="other pairs"):
        seq2seq_curves.train("addition", Pairs.from_text(addition(450, rng=1)), 3, PEEKY, tmp_path, compiled=False)
    for other in ({"seed": 1}, {"published_start": False}):
        with pytest.raises(ValueError, match="other options, seed or first weights"):
            seq2seq_curves.train("addition", pairs, 3, PEEKY, tmp_path, compiled=False, **other)
