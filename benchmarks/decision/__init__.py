"""`make bench-decision`: how often the product decides wrongly, in simulations and on rolling origins."""
