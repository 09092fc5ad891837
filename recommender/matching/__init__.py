"""One user against live campaigns, by the same functions in training, in a request and in a batch."""
