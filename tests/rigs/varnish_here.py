"""``python -m tests.rigs.varnish_here FOLDER PORT``: origin and Varnish, until standard input ends."""

import sys
from pathlib import Path

from release.lab import caches
from release.lab.origin import Origin

if __name__ == "__main__":
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    with Origin() as origin, caches.start_varnish(folder, name="edge-1", backend=origin.address, port=port):
        print("running", flush=True)
        sys.stdin.read()
