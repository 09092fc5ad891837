"""Challenger against champion: contest, evaluation of registered versions, gate."""
