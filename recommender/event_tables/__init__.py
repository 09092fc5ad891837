"""Takes the shipped log of events into the canonical tables of a run."""
