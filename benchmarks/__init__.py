"""Benchmarks and proofs that people run by hand; nothing in the product imports them."""
