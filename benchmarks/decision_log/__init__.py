"""`make bench-decision-log`: answers while the disk of the decision log hangs, and queries over tens of millions."""
