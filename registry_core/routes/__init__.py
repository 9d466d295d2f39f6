"""Owns the HTTP side of the registry: paths, bodies, answers."""
