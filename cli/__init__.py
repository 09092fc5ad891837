"""The `recommender` command: each verb is one call into a package below."""
