"""Allocates campaigns to users: bulk scoring and audiences."""
