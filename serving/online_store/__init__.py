"""Reads a user's packed features from the online store that Feast wrote, without importing Feast."""
