"""Processes that ``/proc`` hides (``hidepid``): they are not taken for dead."""

import os
import subprocess
import sys

import pytest

from tests.rigs.site import PROJECT

HIDDEN = "mount -t proc -o hidepid=2 proc /proc && exec setpriv --regid 65534 --clear-groups"
HIDDEN += " --bounding-set=-all --inh-caps=-all"
ASK = """
import os
from engine.cluster.process_mark import has_ended, process_mark
place = process_mark(os.getpid()).rpartition(":")[0]
print(repr(process_mark(1)), has_ended(1, f"{place}:1"), has_ended(4_000_000, f"{place}:1"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_process_that_proc_hides_is_not_taken_for_dead() -> None:
    script = f'({HIDDEN} "$0" -c "$1")'
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script, sys.executable, ASK],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "'' False True\n", done.stderr
