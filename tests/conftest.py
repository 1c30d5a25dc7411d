"""What all tests share."""

import os

# Kernels take seconds to compile; tests that want them say compiled="numba".
os.environ.setdefault("MINIGRAD_BACKEND", "numpy")
