"""Stands in for `release.agent`: each operation behaves, or misbehaves, in its own way."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def say(**entry: Any) -> None:
    print(json.dumps(entry), flush=True)


def main(argv: list[str]) -> int:
    (op,) = argv
    request = json.loads(sys.stdin.read())
    match op:
        case "echo":
            say(ok=True, request=request, pid=os.getpid())
        case "progress":
            for number in range(3):
                say(event="step", number=number)
            say(ok=True)
        case "refuse":
            say(ok=False, error="no space left", kind="disk", log=["one", "two"])
            return 1
        case "wait":  # until told, or for ever
            say(event="waiting", pid=os.getpid())
            while not Path(request["until"]).exists():
                time.sleep(0.02)
            say(ok=True)
        case "noise":
            print("Welcome to this machine!", flush=True)
            print("[1, 2]", flush=True)
            sys.stderr.write("a warning\n" * 100_000)
            say(event="loud")
            say(ok=True, big="x" * 300_000)
            print("after the answer", flush=True)
        case "silent":
            sys.stderr.write("Traceback\nKeyError: 'what'\n")
            return 1
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "leaves-a-child":  # as starting a supervisor carelessly would: it keeps the pipes open
            if not os.fork():
                os.setsid()
                time.sleep(float(request["for_s"]))
                os._exit(0)
            say(ok=True)
        case _:
            say(ok=False, error=f"unknown operation {op!r}", kind="usage")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
