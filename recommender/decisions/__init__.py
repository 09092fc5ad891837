"""Assignment of users to variants, and the decision log. Small enough for the gateway to import."""
