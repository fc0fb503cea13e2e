"""Supervisor: holds the listening socket, runs the workers, replaces them without a refused connection.

Promise
    The address is bound once. While workers change, connections wait in the socket's queue; none is
    refused and none is cut off in the middle of an answer. A new version is given traffic only after it
    has started, said that it is ready and said that it is the version it should be; one that crashes,
    hangs, answers 503 or another version is ended, and the old one has not noticed. A version that goes
    bad in its first seconds (the bake) is replaced by the one before it. The process id never changes.

Sequence of a reload
    1. spawn a new worker per slot, from the resolved release folder; it does not accept yet
    2. ask each on its private socket until ``/readyz`` is 200; ``/version`` must be the right one
    3. tell all workers their peers, tell the new ones to ``go``, wait until each says that it accepts
    4. tell the old ones to drain; one that does not is killed two seconds after its limit
    5. an old worker has exited: its successor is told to ``adopt`` what it left
    6. bake: a new worker that exits, is not ready three times in a row, or answers too many 5xx starts
       the same sequence back to the old release

    A failure in 1 or 2 ends the new workers: nothing has happened. One in 3 drains them: the old ones never
    stopped accepting. While a reload goes on, a second one and a self-replacement are refused; a stop is
    not, it drains every worker. An old worker that dies before step 3 is respawned like any other.

Respawn
    A worker that dies is replaced at once, then with growing pauses while it keeps dying young. The first
    start is different: when a worker cannot start at all the supervisor ends, with the worker's exit code
    if that was 2 (wrong configuration), else with 1.

Self-replacement
    ``replace`` checks that the new ``supervisor.py`` compiles and that its program can read this one's state
    (it is run once for that), then executes it in this process: same pid, sockets and workers. Descriptors
    are inherited, the rest goes through a memory file; signals wait until the new code has its handlers.

Limits
    Linux only. A changed ``engine.listen``, ``engine.data_dir`` or number of workers needs a restart; a
    reload that finds the first two changed is refused. SIGKILL of the supervisor ends the service: workers
    see the end of their control socket, drain for two seconds and exit; the next supervisor waits for them
    (they hold ``supervisor.lock``), then binds. During those seconds connections are refused, unless
    systemd holds the socket (``LISTEN_FDS``). A worker that serves, but badly, is not noticed after the bake.

    systemd unit: ``Type=notify``, ``NotifyAccess=main``, ``KillMode=mixed``, and an ``ExecReload=`` that
    sends ``{"cmd":"reload"}`` to the control socket and waits for its last line.

The folder runs alone (``python3 -I DIR``), outside ``releases/`` and any virtual environment, so it imports
the standard library only, and no other room. It is entered at `main`: by `engine.cli`, and on hosts by
``__main__``. From the top floor down::

    start                           main(): arguments, configuration, exit code
    supervisor                      the main loop: signals, commands, end
    reloads, replacing, status      the commands
    phase, reload, bake             what is under way; one reload and its way back
    fleet, slot, launch             all workers: spawn, go, drain, adopt, respawn
    handover, holding, program      state for a successor; what there is one of; what is executed
    worker, orders, asking          one worker process and how it is talked to
    control, listener, lock         sockets and lock of the host
    options, table, release, notifier, output, signals, steps, unix, errors

Decisions take their time from the monotonic clock; wall-clock time is only shown.
"""

from .start import main

__all__ = ["main"]
