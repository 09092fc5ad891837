"""Pipelines of components, compiled for this machine or a cluster, run here or submitted. No logic of their own."""
