"""Builds a feature set on Spark: the expressions of one machine for the whole shop, its functions on the executors."""
