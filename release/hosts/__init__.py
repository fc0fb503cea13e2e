"""The way to hosts: an operation goes out to each of them, one outcome per host comes back.

``target`` says which hosts a task means, ``remote.Fleet`` asks them all at once, ``link`` and ``ssh`` run the
agent on one of them. ``lock`` keeps others away during a run; ``journal`` is what this machine remembers.
Imports the agent, which it ships; knows nothing of plans and artefacts.
"""
