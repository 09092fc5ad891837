"""Pipeline step that judges the tables with Great Expectations before anything is learnt from them."""
