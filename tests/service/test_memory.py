"""Memory given back: measured in a process of its own, because it changes all of it."""

import subprocess
import sys

PROGRAM = """
import threading
from engine.base.memory import trim_memory

def rss_mib():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) / 1024

def work():
    before = rss_mib()
    large = [bytes(30_000_000)]  # glibc takes it as a hint to keep that much
    del large
    texts = [bytes(1000) + b"x" for _ in range(40_000)]
    full = rss_mib()
    del texts
    trim_memory()
    print(full - before, rss_mib() - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_what_a_thread_had_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    taken, left = map(float, done.stdout.split())
    assert taken > 35
    assert left < taken / 8
