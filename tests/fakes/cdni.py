"""The examples of RFC 8007, section 6: requests byte for byte, and the bodies of their answers.

The bodies of the two commands are printed shorter there than their ``Content-Length``: what is missing is
white space here. The example of a cancel command is that of the RFC's erratum 5064.
"""

from __future__ import annotations

import json
from typing import Any, Final


def _bytes(text: str) -> bytes:
    """Return a request with line ends as HTTP has them, and with a body as long as its head says."""
    head, _, body = text.partition("\n\n")
    length = next(
        (line for line in head.split("\n") if line.startswith("Content-Length: ")), "Content-Length: 0"
    )
    return (head.replace("\n", "\r\n") + "\r\n\r\n" + body.ljust(int(length.split()[1]))).encode()


PREPOSITION: Final = _bytes(
    """\
POST /triggers HTTP/1.1
User-Agent: example-user-agent/0.1
Host: dcdn.example.com
Accept: */*
Content-Type: application/cdni; ptype=ci-trigger-command
Content-Length: 352

{
  "trigger": {
    "type": "preposition",

    "metadata.urls": [ "https://metadata.example.com/a/b/c" ],
    "content.urls": [
        "https://www.example.com/a/b/c/1",
        "https://www.example.com/a/b/c/2",
        "https://www.example.com/a/b/c/3",
        "https://www.example.com/a/b/c/4"
      ]
  },
  "cdn-path": [ "AS64496:1" ]
}"""
)
INVALIDATE: Final = _bytes(
    """\
POST /triggers HTTP/1.1
User-Agent: example-user-agent/0.1
Host: dcdn.example.com
Accept: */*
Content-Type: application/cdni; ptype=ci-trigger-command
Content-Length: 387

{
  "trigger": {
    "type": "invalidate",

    "metadata.patterns": [
        { "pattern": "https://metadata.example.com/a/b/*" }
      ],

    "content.urls": [ "https://www.example.com/a/index.html" ],
    "content.patterns": [
        { "pattern": "https://www.example.com/a/b/*",
          "case-sensitive": true
        }
      ]
  },
  "cdn-path": [ "AS64496:1" ]
}"""
)
CANCEL: Final = _bytes(
    """\
POST /triggers HTTP/1.1
User-Agent: example-user-agent/0.1
Host: dcdn.example.com
Accept: */*
Content-Type: application/cdni; ptype=ci-trigger-command
Content-Length: 91

{
  "cancel" : [ "https://dcdn.example.com/triggers/0" ],
  "cdn-path" : [ "AS64496:1" ]
}"""
)


def get(path: str, *lines: str, method: str = "GET") -> bytes:
    """Return a request without a body, as the RFC prints them; *lines* come behind its own."""
    own = (f"{method} {path} HTTP/1.1", "User-Agent: example-user-agent/0.1", "Host: dcdn.example.com")
    return "\r\n".join((*own, "Accept: */*", *lines, "", "")).encode()


PREPOSITION_STATUS: Final[dict[str, Any]] = json.loads(
    """\
{
    "ctime": 1462351690,
    "etime": 1462351698,
    "mtime": 1462351690,
    "status": "pending",
    "trigger": {
        "content.urls": [
            "https://www.example.com/a/b/c/1",
            "https://www.example.com/a/b/c/2",
            "https://www.example.com/a/b/c/3",
            "https://www.example.com/a/b/c/4"
        ],
        "metadata.urls": [
            "https://metadata.example.com/a/b/c"
        ],
        "type": "preposition"
    }
}
"""
)
INVALIDATE_STATUS: Final[dict[str, Any]] = json.loads(
    """\
{
    "ctime": 1462351691,
    "etime": 1462351699,
    "mtime": 1462351691,
    "status": "pending",
    "trigger": {
        "content.patterns": [
            {
                "case-sensitive": true,
                "pattern": "https://www.example.com/a/b/*"
            }
        ],
        "content.urls": [
            "https://www.example.com/a/index.html"
        ],
        "metadata.patterns": [
            {
                "pattern": "https://metadata.example.com/a/b/*"
            }
        ],
        "type": "invalidate"
    }
}
"""
)
ALL: Final[dict[str, Any]] = json.loads(
    """\
{
    "cdn-id": "AS64496:0",
    "coll-active": "/triggers/active",
    "coll-complete": "/triggers/complete",
    "coll-failed": "/triggers/failed",
    "coll-pending": "/triggers/pending",
    "staleresourcetime": 86400,
    "triggers": [
        "https://dcdn.example.com/triggers/0",
        "https://dcdn.example.com/triggers/1"
    ]
}
"""
)
ERRORS: Final[dict[str, Any]] = json.loads(
    """\
{
    "ctime": 1462351702,
    "errors": [
        {
            "content.urls": [
                "https://newsite.example.com/index.html"
            ],
            "description": "newsite.example.com not in HostIndex",
            "error": "emeta"
        }
    ],
    "etime": 1462351710,
    "mtime": 1462351706,
    "status": "active",
    "trigger": {
        "content.urls": [
            "https://newsite.example.com/index.html"
        ],
        "type": "preposition"
    }
}
"""
)
