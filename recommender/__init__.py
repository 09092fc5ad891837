"""The core: data, features, rankers, evaluation and promotion. It decides which campaign to show to which shopper.

It imports no Kubeflow, Kubernetes, Feast, Great Expectations or TorchServe.
"""
