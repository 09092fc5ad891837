"""Cost of the features: building them, reading them at a moment, and writing and reading the feature store."""
