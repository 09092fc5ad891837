"""`python -m serving.deployer`: the deployer, as its container starts it."""

from serving.stopping import end_at_sigterm

end_at_sigterm()  # before the slow imports below: a container's first process ignores SIGTERM until it has a handler

from serving.deployer.sync import main  # noqa: E402

main()
