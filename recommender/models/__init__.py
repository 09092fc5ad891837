"""Rankers of campaigns (`campaign`) and of items (`next_item`)."""
