"""Step 2 of the pipeline: judging the tables before anything is learnt from them."""
