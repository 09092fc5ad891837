"""Scoring by a server of the Open Inference Protocol v2, such as MLServer, KServe or Triton."""
