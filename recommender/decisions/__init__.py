"""Assignment of users to variants, and the decision log, small enough for the gateway to import."""
