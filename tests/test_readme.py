"""Every Python block of the README runs, in order, in one namespace."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_the_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) >= 8
    namespace = {"__name__": "readme"}
    for k, block in enumerate(BLOCKS):
        try:
            exec(compile(block, f"README.md, block {k + 1}", "exec"), namespace)
        except Exception as error:
            pytest.fail(f"block {k + 1} of the README failed: {error!r}\n{block}")


def test_the_tape_prints_as_shown():
    """The listing under the second block is what that block prints."""
    shown = re.search(r"print\(mg\.tape\(e\)\)\n```\n\n((?: {4}.*\n)+)", README).group(1)
    import numpy as np

    import minigrad as mg

    a = mg.tensor([1.0, 2.0, 3.0], requires_grad=True, name="a")
    with mg.scope("energy"):
        e = np.sum(np.tanh(a) ** 2)
    printed = str(mg.tape(e)).splitlines()
    assert [" ".join(line.split()) for line in printed] == [" ".join(line.split()) for line in shown.splitlines()]
