"""Trains any network: loop, softmax losses, checkpoints, precision, processes, search. It knows no ranker."""
