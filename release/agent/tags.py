"""What wheels are built for: this interpreter and this machine."""

from __future__ import annotations

import platform
import sys


def python_tag() -> str:
    """Return the tag of this interpreter, such as ``cp311``."""
    return f"cp{sys.version_info[0]}{sys.version_info[1]}"


def platform_tag() -> str:
    """Return the tag of this machine, such as ``linux_x86_64``."""
    return f"linux_{platform.machine()}"
