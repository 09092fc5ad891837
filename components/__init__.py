"""Thin Kubeflow components, one step in each file, and the names of the images that they run in."""
