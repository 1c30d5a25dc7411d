"""Recurrent networks, written with minigrad.

>>> import rnn
>>> lstm = rnn.LSTM(input_size=65, hidden_size=128)
>>> outputs, state = lstm(x)                        # x: (batch, time, features)
"""

import signal as _signal
import sys as _sys

# `python -m rnn` is starting, until `__main__` takes over: Ctrl-C ends it without a traceback of half an import.
if _sys.argv[:1] == ["-m"] and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import minigrad as _minigrad  # before NumPy: see minigrad.before_numpy

# isort: split
from . import dropout, interop
from .attention import Attention
from .cells import Cell, GRUCell, GRUState, JordanCell, JordanState, LSTMCell, LSTMState, RNNCell, RNNState
from .layers import GRU, LSTM, RNN, Jordan, Recurrent, detach
from .probe import GradientProbe, gradient_probe
from .search import Hypothesis, beam_search
from .seq2seq import Decoder, Encoder, Seq2Seq
from .tbptt import TruncatedBPTT

__all__ = ["GRU", "Jordan", "JordanCell", "JordanState", "LSTM", "RNN",
           "GradientProbe", "TruncatedBPTT", "dropout", "gradient_probe",
           "Cell", "GRUCell", "GRUState", "LSTMCell", "LSTMState", "RNNCell", "RNNState",
           "Attention", "Decoder", "Encoder", "Hypothesis", "Seq2Seq", "beam_search", "interop",
           "Recurrent", "detach"]
