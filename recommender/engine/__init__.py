"""Trains any network: loop, softmax losses, checkpoints, precision, processes, search. It depends on no ranker."""
