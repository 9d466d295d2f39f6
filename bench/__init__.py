"""Owns the measurements: our product beside its peers, in one run, on one machine."""
