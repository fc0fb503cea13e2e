"""The supervisor: keeps the listening socket, starts workers, reloads.

Standard library only; imports no other room, and only `engine.cli` starts it.
"""
