"""What all tests share."""

import os
from collections.abc import Iterator

# Kernels take seconds to compile; tests that want them say compiled="numba".
os.environ.setdefault("MINIGRAD_BACKEND", "numpy")

# With a worker of pytest-xdist per core, a second thread only waits for a core. For this process, and those it starts.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

from minigrad.environment import use_threads
from minigrad.recording import LOCAL, State

use_threads(int(os.environ["OPENBLAS_NUM_THREADS"]))  # should a plugin have imported NumPy before
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Every test leaves the thread recording, outside all scopes, unwatched, and NumPy's settings as they were."""
    before = np.geterr()
    yield
    left, LOCAL.state = LOCAL.state, State()  # the next test is another
    for name in State.__slots__:
        assert getattr(left, name) == getattr(LOCAL.state, name), name
    assert np.geterr() == before
