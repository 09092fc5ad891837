"""Cost of the feature store: writing and reading online."""
