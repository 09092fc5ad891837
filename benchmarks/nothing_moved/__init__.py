"""Proof that a refactoring moved nothing: run two commits on the same inputs and compare what they make, bit for bit.

inputs.py        the synthetic shop, the events and the requests that both commits get
trees.py         a checkout of each commit with its own virtual environment
side.py          the command line of a checkout
endpoint.py      its running endpoint
runs.py          the parts: what is run in a checkout, and the facts that are read from it
differences.py   the first difference between the facts of two commits
__main__.py      the command

Nothing here imports the project. Both commits are driven only through what a refactoring keeps: the command line, the
settings file, the HTTP API, and the bundles and logs below the home folder, which are found by their contents and not
by their place.
"""
