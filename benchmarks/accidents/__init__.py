"""Which accidents in a shop's export validation notices, and how many false alarms it raises on good days."""
