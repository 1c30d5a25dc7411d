"""What CONTRIBUTING.md says of adding a primitive is done here, to the letter."""

import re
from pathlib import Path

import numpy as np
import pytest
import samples
import test_rules

from minigrad.primitive import PRIMITIVES
from minigrad.rules import elementwise

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def added():
    """The samples of the primitive of the example; it is gone afterwards."""
    declare, sample = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len((declare + sample).strip().splitlines()) <= 10
    primitives, known = len(PRIMITIVES), len(samples.SAMPLES)
    space = dict(vars(elementwise))
    exec(declare, space)
    exec(sample, {**vars(samples), "softsign": space["softsign"]})
    yield samples.SAMPLES[known:]
    del PRIMITIVES[primitives:], samples.SAMPLES[known:]


def test_a_primitive_in_ten_lines_gets_its_tests_for_free(added) -> None:
    tests = [f for name, f in vars(test_rules).items() if name.startswith("test_") and hasattr(f, "pytestmark")
             and test_rules.every_sample.mark in f.pytestmark]
    assert len(tests) >= 9 and len(added) == 3
    for test in tests:
        for sample in added:
            test(sample)


def test_a_wrong_rule_does_not_pass(added) -> None:
    (primitive,) = {p for p in PRIMITIVES if p.name == "softsign"}
    primitive.rules = (lambda g, y, x: g * (1.0 - np.absolute(y)),)
    with pytest.raises(AssertionError, match="derivative 1"):
        test_rules.test_P4_three_derivatives_agree_with_central_differences(added[1])
