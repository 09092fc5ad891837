"""Watches what serves: drift of features, age of data, calibration of what was served. It knows no pipeline."""
