"""Cache purge and prefetch engine.

A task passes these modules on its way to the caches, and answers come back
the same way::

    client -> intake -> validate -> region -> saver -> store        accept: 202 after the commit
                                       |
                                       +-> dispatch -> node -> cache    parents first, then edges

    cache -> node -> result -> region -> saver -> notify            settle

``model`` and ``errors`` import nothing of ours, and every other import follows
these arrows. ``store`` and ``drivers`` hold alternatives of one interface each.
``lifecycle`` starts and stops the parts, ``process`` is around it. Nothing here
imports ``release``.
"""
