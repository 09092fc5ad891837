"""Load generator for an HTTP endpoint: open loop, latencies from the intended send time. Imports no other package."""
