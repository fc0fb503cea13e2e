"""Recordings, as ``purgeline record`` writes them."""

import json

from engine.recordings.gor import REQUEST, RESPONSE, Entry, encode


def exchange(
    name: str, at_ns: int, head: str, body: bytes, status: int, answer: object, *fields: str
) -> bytes:
    """Return the two entries of a request and its recorded answer."""
    lines = [f"{head} HTTP/1.1", "Host: a", *fields, f"Content-Length: {len(body)}", "", ""]
    request = "\r\n".join(lines).encode() + body
    text = json.dumps(answer).encode()
    response = f"HTTP/1.1 {status} x\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text
    return encode(Entry(REQUEST, name, at_ns, request)) + encode(
        Entry(RESPONSE, name, at_ns + 1_000_000, response, 1_000_000)
    )


def recorded(tasks: int, *, every_ns: int = 0, callback: str = "") -> bytes:
    """Return a recording: each task is handed in, with an id of its own or without, and asked for."""
    text = b""
    for number in range(tasks):
        chosen = {"id": f"job-{number}"} if number % 2 else {}
        told = {"callback": callback} if callback else {}
        body = json.dumps({**chosen, **told, "targets": [f"http://img.example.com/{number}"]}).encode()
        task_id = chosen.get("id", f"given-{number}")
        at_ns = number * every_ns
        text += exchange(f"a{number}", at_ns, "POST /v1/engine/task", body, 202, {"task_id": task_id})
        text += exchange(f"b{number}", at_ns, f"GET /v1/engine/task/{task_id}", b"", 200, {})
    return text


def tasks(count: int, *, callback: str = "") -> bytes:
    """Return a recording of tasks alone, each of one target, with a callback and a token."""
    text = []
    for number in range(count):
        told = {"callback": callback} if callback else {}
        body = json.dumps({**told, "targets": [f"http://img.example.com/{number}"]}).encode()
        answer = {"task_id": f"given-{number}"}
        at_ns = number * 1_000_000
        head = "POST /v1/engine/task"
        text.append(exchange(f"a{number}", at_ns, head, body, 202, answer, "Authorization: Bearer recorded"))
    return b"".join(text)


def batch(number: int, *lines: tuple[str, str]) -> bytes:
    """Return the recording of an NDJSON request, and of a question for each of its tasks.

    Args:
        number: of the request.
        lines: a target and the recorded id of its task each; an empty id: the line was refused.
    """
    bodies = [json.dumps({"targets": [target]}) for target, _ in lines]
    answers = [
        json.dumps({"task_id": task_id} if task_id else {"status": 422, "detail": "no"})
        for _, task_id in lines
    ]
    request = "POST /v1/engine/tasks HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n\r\n"
    response = "HTTP/1.1 200 OK\r\n\r\n" + "\n".join(answers) + "\n"
    text = encode(Entry(REQUEST, f"n{number}", 0, (request + "\n".join(bodies)).encode()))
    text += encode(Entry(RESPONSE, f"n{number}", 1_000_000, response.encode(), 1_000_000))
    for place, (_, task_id) in enumerate(lines):
        if task_id:
            text += exchange(f"q{number}-{place}", 0, f"GET /v1/engine/task/{task_id}", b"", 200, {})
    return text
