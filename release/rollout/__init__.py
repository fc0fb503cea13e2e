"""From the wish to the plan to the hosts and, when it goes wrong, back.

A task enters at ``deploy``, ``rollback``, ``maintenance``, ``overview`` or ``versions``; its exit code leaves
there::

    deploy   -> gates -> plan -> review -> runner -> batches -> steps -> hosts      (out)
    rollback -> gates -> plan -> review -> runner
    steps -> report -> runner -> display, history, exit code                        (back)

``localhost`` makes the host ``local`` ready first. What a run shows goes through ``display``, an interface.
Imports the rooms below: states, hosts, repository, build.
"""
