"""Scoring engines: TorchServe, worker processes of the gateway's own, or any server of the Open Inference Protocol."""
