"""Invoke tasks of the release pipeline: parse, call, print. ``tasks.py`` imports them.

Each task imports what it needs when it runs, so that listing the tasks stays fast.
"""
