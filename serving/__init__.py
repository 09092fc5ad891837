"""The endpoint: gateway, worker and deployer, one package per process, and the modules that they share."""
