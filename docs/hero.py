"""Draws the picture at the top of the README: python docs/hero.py"""

from pathlib import Path

import numpy as np

import minigrad as mg
import rnn

rng = np.random.default_rng(1)
lstm = rnn.LSTM(4, 8, rng=1, compiled=False)
readout = mg.nn.Linear(8, 5, rng=1)
x = mg.tensor(rng.normal(size=(2, 3, 4)).astype(np.float32), name="x")

outputs, _ = lstm(x)
loss = mg.cross_entropy(readout(outputs), rng.integers(0, 5, (2, 3)))
loss.name = "loss"
with mg.record_gradients() as gradients:
    loss.backward()
mg.draw(loss, gradients=gradients).save(str(Path(__file__).parent / "unrolled_lstm.svg"))
