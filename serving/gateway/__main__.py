"""`python -m serving.gateway`: the gateway, as its container and `recommender serve` start it."""

from serving.gateway.app import main

main()
