"""Appends events to users' tails in the online store. `serving.online_store` reads them with the users' rows."""
