"""Timings beside other libraries: `python -m benchmarks.step` and `python -m benchmarks.overhead`."""
