"""Which campaign to put before which shopper: the core. It knows no Kubeflow, Kubernetes, Feast, Great Expectations or TorchServe."""
