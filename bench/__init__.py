"""Benchmarks: CPU per call and ratios taken in one run. `python -m bench NAME --json`, `make bench`."""
