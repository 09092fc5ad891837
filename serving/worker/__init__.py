"""Code that the model server loads: the TorchServe handler and scoring."""
