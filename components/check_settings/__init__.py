"""The pipeline's first step: the run's parameters become one settings object, checked before anything costs."""
