"""How a peer's script says what it measured: a line of JSON."""

import json
import resource


def say(value: float) -> None:
    """Print a value with the CPU seconds and the peak memory of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "value": value,
                "cpu_s": used.ru_utime + used.ru_stime,
                "peak_rss_bytes": used.ru_maxrss * 1024,
            }
        )
    )
