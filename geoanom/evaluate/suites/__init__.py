"""Suites of the benchmark, one module each."""
