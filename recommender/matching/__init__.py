"""Matches one user with live campaigns, by the same functions in training, in a request and in a batch."""
