"""Salt: the release's state tree and the operator's pillar, brought to hosts and applied there.

The task ``salt`` enters at ``program``, a deploy at ``step``. Files go out in one request to each host
(``files``, ``apply``), or only the call to a Salt master (``master``); what comes back are ``results``, which
``view`` prints. ``render`` renders a template as Salt does.
Imports hosts, repository and, of the agent, how an answer of Salt is read.
"""
