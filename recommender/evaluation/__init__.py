"""Measures how good rankers are on later data: metrics, intervals, slices and the offline verdict."""
