"""How a peer's script says what it measured: a line of JSON."""

import json
import re
import resource
from pathlib import Path


def say(value: float) -> None:
    """Print a value with the CPU seconds and the peak memory of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "value": value,
                "cpu_s": used.ru_utime + used.ru_stime,
                "peak_rss_bytes": peak_rss_bytes(),
            }
        )
    )


def peak_rss_bytes() -> int:
    """Return the most memory that this process had resident; `ru_maxrss` has its parent's."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
