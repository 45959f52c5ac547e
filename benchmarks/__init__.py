"""Measurements with goals: `python -m benchmarks` lists them."""
