"""What has to be settled before NumPy is loaded: how long the threads of its OpenBLAS wait for the next product.

They wait by spinning, as a rule for 2²⁶ clock cycles, some 25 ms, and take a core meanwhile from whoever has work for
it: from compiled loops, which follow upon products and share a batch out among threads of their own. After 2²⁰ cycles
products that follow each other closely still find the threads awake. OpenBLAS reads the setting when it is loaded and
never again, so it has no effect where NumPy was imported before. One that is there already stays.
"""

import os
import sys

VARIABLE, WAIT = "OPENBLAS_THREAD_TIMEOUT", "20"  # log2 of clock cycles

if "numpy" not in sys.modules and VARIABLE not in os.environ:
    os.environ[VARIABLE] = WAIT
    try:
        import numpy as np  # noqa: F401  its OpenBLAS reads the variable now
    finally:
        del os.environ[VARIABLE]  # what this process starts is not our business
