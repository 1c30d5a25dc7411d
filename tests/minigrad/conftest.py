"""The tests of the engine share the table in `samples.py`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from samples import Group


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Call a test of the table with each sample of its group."""
    group = pyfuncitem.funcargs.get("sample")
    if not isinstance(group, Group):
        return None
    for sample in group:
        try:
            pyfuncitem.obj(sample)
        except Exception as error:
            error.add_note(f"The sample is {sample.id}.")
            raise
    return True
