"""Who gets which campaign: bulk scoring and audiences."""
