"""The endpoint: gateway, worker and deployer, one package per process; what they share lies beside them."""
