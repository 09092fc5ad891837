"""`python -m serving.gateway`: the gateway, as its container and `recommender serve` start it."""

from serving.stopping import end_at_sigterm

end_at_sigterm()  # before the slow imports below: a container's first process ignores SIGTERM until it has a handler

from serving.gateway.run import main  # noqa: E402

main()
