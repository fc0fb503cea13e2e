"""From a commit to an artefact: ``packing`` takes a work tree and leaves a file under ``dist/``.

``version`` says what the commit is released as (``git``), ``wheels`` are ours and the locked ones, ``sbom``
lists the parts, ``manifest`` the files, ``archive`` writes and reads them, ``selftest`` installs the result
before it gets its name. Two packs of one commit are the same bytes. ``compiled`` makes machine code of hot
modules; ``checkout`` and ``finder`` have a checkout run it. Imports no other room.
"""
