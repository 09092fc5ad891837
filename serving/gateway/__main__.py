"""`python -m serving.gateway`: the gateway, as its container and `recommender serve` start it."""

from serving.stopping import end_at_sigterm

end_at_sigterm()  # before the imports below, which take a second: the first process of a container ignores SIGTERM by default

from serving.gateway.app import main  # noqa: E402

main()
