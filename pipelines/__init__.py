"""Pipelines of components: compile them for this machine or a cluster, and run or submit them."""
