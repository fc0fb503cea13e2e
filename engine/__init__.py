"""Cache purge and prefetch engine.

A task passes these rooms on its way to the caches, and answers come back the same way::

    client -> intake -> saver -> store                 accept: 202 after the commit
                          |
                          +-> delivery -> nodes -> cache     parents first, then edges

    cache -> nodes -> delivery -> saver -> notify      settle

Beside that way: ``api`` (find, list, cancel, overview), ``workers`` (the others of this engine), ``cluster``
(engines of one Redis), ``recovery`` (what the journal holds, after a start). ``process`` makes, starts and
stops the parts; ``supervisor`` runs the processes; ``cli`` is the command line. All of them stand on
``tasks``, ``config``, ``observe`` and ``base``.

A room imports only rooms below it; its ``__init__`` says which, and where the flow enters and leaves.
``store`` and ``nodes.drivers`` hold alternatives of one interface each. Nothing here imports ``release``.
"""
