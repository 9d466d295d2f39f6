"""Owns the database: tables, queries, migrations."""
