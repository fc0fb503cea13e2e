"""release.agent.answers and requests: what people are told, and what is taken."""

import errno
import json
from typing import Any

import pytest

from release.agent import answers, requests
from release.agent.answers import Refused


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (errno.ENOSPC, "disk", "the disk is full (/srv); make room and run it again"),
        (errno.EDQUOT, "disk", "the disk is full (/srv); make room and run it again"),
        (errno.EACCES, "permission", "no (/srv); run it as the owner of the folder"),
        (errno.EROFS, "permission", "no (/srv); run it as the owner of the folder"),
        (errno.EIO, "system", "no (/srv)"),
    ],
)
def test_an_error_of_the_system_says_what_to_do(number: int, kind: str, text: str) -> None:
    refused = answers.explain(OSError(number, "no", "/srv"))
    assert (refused.kind, str(refused)) == (kind, text)


@pytest.mark.parametrize(("kind", "code"), [("input", 2), ("disk", 1)])
def test_a_refusal_is_one_line_and_an_exit_code(
    kind: str, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert answers.refuse(Refused(kind, "no", ["last"])) == code
    (line,) = capfd.readouterr().out.splitlines()
    assert json.loads(line) == {"ok": False, "kind": kind, "error": "no", "log": ["last"]}


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({}, "x: root is missing"),
        ({"root": "/r"}, "x: version is missing"),
        ({"root": "/r", "version": 1}, "x: version: takes text, not 1"),
        ({"root": "/r", "version": "1", "keep": True}, "x: keep: takes a number, not True"),
        ({"root": "/r", "version": "1", "bake_s": "1"}, "x: bake_s: takes seconds, not '1'"),
        ({"root": "/r", "version": "1", "force": 1}, "x: force: takes true or false, not 1"),
        (
            {"root": "/r", "version": "1", "service": "x"},
            "x: service: takes auto, systemd or direct, not 'x'",
        ),
    ],
)
def test_a_request_that_cannot_be_used_is_named(request_: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused) as caught:
        requests.check("x", request_, ("version",))
    assert (caught.value.kind, str(caught.value)) == ("input", why)


def test_what_is_none_is_as_good_as_left_out() -> None:
    requests.check(
        "x", {"root": "/r", "version": "1", "keep": None, "service": None, "other": []}, ("version",)
    )
    assert requests.seconds({"bake_s": None}, "bake_s", 5.0) == 5.0
    assert requests.seconds({"bake_s": 0}, "bake_s", 5.0) == 0.0
    assert requests.by({"who": "ann", "deploy_id": None}) == {"who": "ann", "deploy_id": ""}
