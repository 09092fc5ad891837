"""Several gateway processes behind one port: a parent that starts them again, and one answer for all about health."""
