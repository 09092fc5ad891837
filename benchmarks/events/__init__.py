"""Events over HTTP, on a small synthetic shop.

How soon the next answer knows an event, whether killed gateways lose any, and what the read of a user costs.
"""
