"""`serve` and `stop`: the endpoint stays until it is told to go."""
