"""The contenders, one small file each behind one interface: `make(problem) -> step`.

A file imports its library inside `make`, so that one that is not installed costs a line, not the run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.contenders import autograd_loop, jax_scan, mygrad_loop, ours, products, pytorch
from benchmarks.problem import Problem, Step

#: What `--contenders` accepts, and the order of the rows.
CONTENDERS: dict[str, Callable[[Problem], Step]] = {
    "minigrad": partial(ours.make, compiled=False),
    "minigrad-compiled": partial(ours.make, compiled=True),
    "torch-cells": pytorch.make_cells,
    "torch-nn": pytorch.make_nn,
    "jax": jax_scan.make,
    "mygrad": mygrad_loop.make,
    "autograd": autograd_loop.make,
    "products": products.make,
}

LABELS = {
    "minigrad": "minigrad, eager",
    "minigrad-compiled": "minigrad, compiled",
    "torch-cells": "PyTorch, loop over nn.{CELL}Cell",
    "torch-nn": "PyTorch, nn.{CELL}",
    "jax": "JAX, jit(scan)",
    "mygrad": "MyGrad, loop",
    "autograd": "autograd, loop",
    "products": "matrix products alone",
}
