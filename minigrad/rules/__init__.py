"""The derivative table, a file per topic. Importing this package fills it."""

from . import convolution, elementwise, indexing, linear_algebra, reduction, shape, softmax

__all__ = ["convolution", "elementwise", "indexing", "linear_algebra", "reduction", "shape", "softmax"]
