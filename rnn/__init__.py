"""Recurrent networks, written with minigrad.

>>> import rnn
>>> lstm = rnn.LSTM(input_size=65, hidden_size=128)
>>> outputs, state = lstm(x)                        # x: (batch, time, features)
"""

from .cells import Cell, GRUCell, GRUState, LSTMCell, LSTMState, RNNCell, RNNState
from .layers import GRU, LSTM, RNN, Recurrent, detach

__all__ = ["GRU", "LSTM", "RNN", "Cell", "GRUCell", "GRUState", "LSTMCell", "LSTMState", "RNNCell", "RNNState",
           "Recurrent", "detach"]
