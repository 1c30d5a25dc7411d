"""What all tests share."""

import os

# Kernels take seconds to compile; tests that want them say compiled="numba".
os.environ.setdefault("MINIGRAD_BACKEND", "numpy")

# With a worker of pytest-xdist per core, a second thread only waits for a core. For this process, and those it starts.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from hypothesis import settings

from minigrad.environment import use_threads

use_threads(int(os.environ["OPENBLAS_NUM_THREADS"]))  # should a plugin have imported NumPy before
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")
