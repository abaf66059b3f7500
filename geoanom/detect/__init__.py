"""Detectors, their calibration and the ensemble that joins them; rows in, scores out, no geography."""
