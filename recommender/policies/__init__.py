"""Learning and estimating from logged decisions: off-policy estimators, policy head, reward model, exploration."""
