"""Owns the subcommands of ``registry``."""
