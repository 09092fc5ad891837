"""`python -m serving.deployer`: the deployer, as its container starts it."""

from serving.stopping import end_at_sigterm

end_at_sigterm()  # before the imports below, which take a second: the first process of a container ignores SIGTERM by default

from serving.deployer.deploy import main  # noqa: E402

main()
