"""Profiles in the formats of viewers: collapsed stacks, speedscope's JSON, text. Pure."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from engine.cli.cells import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.client.bodies import Document

FORMATS: Final = ("text", "speedscope", "collapsed")
_SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"
_SHOWN: Final = 25  #: functions


def collapsed(document: Document) -> str:
    """Return a line for each stack: ``worker;thread;function;function count``; what waits is left out."""
    lines: Counter[str] = Counter()
    for worker, stack in _stacks(document):
        if stack["state"] == "works":
            parts = [f"worker {worker['worker']}", stack["thread"], *stack["frames"]]
            lines[";".join(clean(part).replace(";", ",") for part in parts)] += stack["count"]
    return "".join(f"{line} {count}\n" for line, count in lines.items())


def speedscope(document: Document) -> str:
    """Return a file for speedscope: a profile for each thread, what waits included, in seconds."""
    frames: dict[str, int] = {}
    profiles: dict[tuple[str, str], dict[str, Any]] = {}
    for worker, stack in _stacks(document):
        each_s = worker["seconds"] / max(1, worker["samples"])
        name = f"worker {worker['worker']} {stack['thread']}"
        profile = profiles.setdefault(
            (worker["worker"], stack["thread"]),
            {
                "type": "sampled",
                "name": name,
                "unit": "seconds",
                "startValue": 0,
                "endValue": 0,
                "samples": [],
                "weights": [],
            },
        )
        places = [*stack["frames"], *([] if stack["state"] == "works" else [f"[{stack['state']}]"])]
        profile["samples"].append([frames.setdefault(place, len(frames)) for place in places])
        profile["weights"].append(round(stack["count"] * each_s, 6))
        profile["endValue"] = round(profile["endValue"] + stack["count"] * each_s, 6)
    shared = {"frames": [{"name": name} for name in frames]}
    file = {"$schema": _SCHEMA, "exporter": "purgeline", "name": "purgeline", "activeProfileIndex": 0}
    return json.dumps({**file, "shared": shared, "profiles": list(profiles.values())}) + "\n"


def text(document: Document) -> str:
    """Return the functions in which threads worked most, with what they had called and without."""
    own: Counter[str] = Counter()
    all_in: Counter[str] = Counter()
    works = 0
    for _, stack in _stacks(document):
        if stack["state"] != "works":
            continue
        works += stack["count"]
        own[stack["frames"][-1]] += stack["count"]
        for place in set(stack["frames"]):
            all_in[place] += stack["count"]
    lines = ["", f"of {works} samples of threads at work:", "   own     all  function"]
    share = 100 / max(1, works)
    ranked = sorted(all_in, key=lambda place: (-own[place], -all_in[place]))
    lines += [
        f"{own[place] * share:5.1f} % {all_in[place] * share:5.1f} %  {clean(place)}"
        for place in ranked[:_SHOWN]
    ]
    return "".join(f"{line}\n" for line in lines)


def _stacks(document: Document) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for worker in document["workers"]:
        for stack in worker["stacks"]:
            yield worker, stack
