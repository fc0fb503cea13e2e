"""Configuration: the tables of ``engine.toml``, how they are read, and what is refused.

Imports `engine.base` and `engine.errors` only.
"""
