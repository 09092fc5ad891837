"""Pipeline step that checks the tables with Great Expectations before any training."""
