"""Deployer: keeps the model server in sync with the registry, swapping versions without dropping requests."""
