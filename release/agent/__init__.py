"""What runs on hosts: the agent, one operation per process.

The folder is shipped as it is and run as a program, ``python3 -I DIR OPERATION`` (see ``__main__``); its name
on a host is the digest of its files (see ``package``). In the tree the same modules are ``release.agent``.

The lowest room: standard library only, imports nothing of ours, and its own modules by relative imports. No
sub-packages, so that ``sha256sum *`` covers all that runs.

From the top down: ``program`` (the table of operations) and ``salt`` (applies states, a program of its own);
one module per operation: ``unpack``, ``reload``, ``stop``, ``status``, ``prune``, ``verify``, ``facts``,
``previous``, and those of ``lock`` and ``history``; what they stand on: ``supervisor`` and ``start`` over
``systemd`` and ``control``, ``index``, ``artefact`` and ``environment`` over ``command``; then ``use``,
``layout``, ``requests``, ``files``, ``contents``, ``answers`` and ``redact``.

What holds whenever an operation is killed, whatever fails:

- A release counts only with its ``.verified``, and is run only when it is what that says (see ``verify``). A
  folder without one is removed by the next ``unpack``.
- ``current`` and ``previous`` are relative links, replaced by rename, by ``reload`` only, after the engine
  has taken the release over. If they cannot be replaced, the engine is taken back.
- Files that others read (links, serial, lock) change by rename; ``history.jsonl`` grows by whole lines, a
  torn last line is passed over, and at 1 MiB it begins again with what is still needed.
- Operations that change releases follow one another: they hold ``.op.lock``, and what installs for them does
  too, so a killed one is over when its last process is.
- The way back is the history's: a version that was left by a rollback is not gone back to.
"""
