"""The tests of the engine share the table in `samples.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
