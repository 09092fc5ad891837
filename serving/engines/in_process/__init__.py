"""Scoring in worker processes of the gateway's own, without a model server."""
