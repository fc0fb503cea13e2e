"""``kind = "redis"``: streams and channels of a Redis, as event buses use them.

Nobody connects: the engine reads. ``group`` is one worker's part in the consumer group of a stream, called
in threads; ``entries`` makes bodies of tasks of what stands in there, ``messages`` and ``bans`` tell what a
message of varnish-towncrier asks for. ``handing`` hands all of it to the intake, again while that is full;
``stream`` and ``channels`` are the loops around that, ``turn`` tells whose turn it is where several engines
hear the same message, ``settled`` is what became of entries, ``poison`` sets aside what is refused, ``reach``
is what an operator is told. ``door`` puts them together. What is promised stands in docs/streams.md.
"""
