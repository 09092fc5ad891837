"""Challenger against champion: registration, evaluation of registered versions, and the gate."""
