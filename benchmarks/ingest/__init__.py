"""CPU-seconds and peak memory of `recommender ingest` and `recommender validate` on logs of millions of events."""
