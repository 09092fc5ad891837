"""`python -m serving.deployer`: the deployer, as its container starts it."""

from serving.deployer.deploy import main

main()
