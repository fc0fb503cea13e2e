"""Invoke tasks of the release pipeline: parse, call, print. ``tasks.py`` imports them.

A task is where a wish enters; its exit code is where the answer leaves. The top floor: tasks import any room,
and each imports what it needs when it runs, so that listing the tasks stays fast.
"""
