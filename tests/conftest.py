"""What all tests share."""

import os

# Kernels take seconds to compile; tests that want them say compiled="numba".
os.environ.setdefault("MINIGRAD_BACKEND", "numpy")

from hypothesis import settings

settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")
