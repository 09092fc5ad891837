"""`make bench-serving`, second part: what an endpoint does with more requests than it can answer, and with bad clients.

Every figure is a ratio within one run, because the generator and whatever else runs share the machine's cores.
"""
