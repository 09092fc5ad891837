"""Latency of the whole way of a request against a TorchServe handler that does nothing. `python -m serving.bench`"""
