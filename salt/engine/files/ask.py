"""Ask the supervisor on its control socket and wait for its answer.

``python3 -I ask.py SOCKET reload`` is what the unit's ``ExecReload=`` runs: it ends when the reload has ended, with
0 or, after the reason on stderr, 1. ``stop`` ends when the supervisor has. Standard library only. Installed by Salt.
"""

import json
import os
import socket
import sys

TIMEOUT_S = 300  # above every limit of a reload; systemd's own is shorter


def ask(path: str, command: str) -> str:
    """Return the error of the last answer; empty when it was a good one."""
    os.chdir(os.path.dirname(path) or ".")  # the address of a Unix socket is short, its folder may not be
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(os.path.basename(path))
        connection.sendall(json.dumps({"cmd": command}).encode() + b"\n")
        error = "it ended without an answer"
        with connection.makefile() as lines:
            for line in lines:
                answer = json.loads(line)
                if "ok" not in answer:
                    continue
                error = "" if answer["ok"] else str(answer.get("error", "it did not say why"))
                if command != "stop":
                    break  # after a stop the end of the connection tells that it has ended
        return error


def main() -> int:
    """Run the command line; return the exit code."""
    if len(sys.argv) != 3:
        print("usage: ask.py SOCKET reload|stop", file=sys.stderr)
        return 2
    path, command = sys.argv[1:]
    try:
        error = ask(path, command)
    except (OSError, ValueError) as exc:
        error = f"no supervisor answers on {path}: {exc}"
    if error:
        print(f"{command}: {error}", file=sys.stderr)
    return 1 if error else 0


if __name__ == "__main__":
    sys.exit(main())
