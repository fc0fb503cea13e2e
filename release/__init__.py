"""Brings a version of the engine to its hosts: pack, repo, salt, unpack, reload.

Deciding and doing are apart: a step is first a plan, which ``--dry-run`` prints, and only then done, with one
outcome per host. The rooms, from the top floor down; a room imports only those below it::

    tasks                  what Invoke sees
    show | demo            the screen of a run; the engine's main job on this machine
    rollout                gates, plan, steps, the way back, and the small tasks on hosts
    states                 Salt: the release's states, applied to hosts
    hosts | repository     the way to hosts; published artefacts and their signed index
    build | lab            from a commit to an artefact; an origin and caches for demo and tests
    agent                  runs on the hosts; standard library only

Every room may import ``inventory``, ``settings`` and ``errors``. This package may import ``engine`` to check
what it ships; ``engine`` never imports this one.
"""
