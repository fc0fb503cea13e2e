"""The process around an engine: assembly, start, drain and close, on its own or as a worker.

What lives here: `build` (makes the parts and wires them), `Lifecycle` (starts and stops them), `Housekeeping`
(what is done now and then), the stores that the configuration names, and the two kinds of process: `single`
(a listener and signals) and `worker` (under a supervisor).

It may import every room but `engine.cli`, which alone imports it. It is the only room that knows all others;
no other is handed more than the parts that it uses.

In: `single.run` and `worker.run`, from the command line. Out: connections, to `engine.intake`.
"""
