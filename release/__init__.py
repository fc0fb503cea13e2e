"""Brings a version of the engine to its hosts: pack, repo, salt, unpack, reload.

Deciding and doing are apart: a step is first a plan of commands, which
``--dry-run`` prints, and only then run, with one outcome per host. The tasks
in ``tasks.py`` parse, call and print. This package may import ``engine`` to
check what it ships; ``engine`` never imports this one.
"""
