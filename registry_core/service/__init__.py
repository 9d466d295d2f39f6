"""Owns the use cases: one function each, which asks the policy and owns its transaction."""
