"""Benchmarks: every `make bench-...` target. Outside the core, the images and the code identity."""
