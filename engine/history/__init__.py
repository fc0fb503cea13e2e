"""Who purged what, when, and what each node made of it.

What lives here: `Question` (what is asked), `Cover` (which purges cover a target), `Search` (a page of
answers, from the tasks in memory and the histories of the stores), `entries` (a task as an answer shows it).
What is stored, and how, is told by `engine.tasks.settled` and `engine.tasks.blocks`; the stores pack and keep
it.

The room may import the intake's reading of URLs and patterns, the interface of stores, the model and what is
below.

In: questions, from the interface. Out: pages. All of it blocks, and runs on threads that read.
"""
