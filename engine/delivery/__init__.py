"""From the stored task to its nodes: expansion, dispatch, what happens when a task is over, delay queues.

Tasks enter from `engine.intake`, subtasks leave to `engine.nodes` and come back as answers. May import
nodes, saver, store, notify, observe and what lies below.
"""
