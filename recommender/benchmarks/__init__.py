"""Benchmarks: what is measured beside what, in one run."""
