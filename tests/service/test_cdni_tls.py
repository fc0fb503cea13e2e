"""A CDNI door with TLS: its certificate, and clients that are known by theirs."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.fakes.certificate import make_certificate
from tests.fakes.node import FakeNode
from tests.rigs.cdni import COMMAND, UPSTREAM, CdniEngine, cdni_table, client_table, site_tables
from tests.rigs.engine_process import fake_table

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://www.example.com/a"


def ask(
    port: int,
    ca: Path,
    client: Path | None,
    method: str = "GET",
    path: str = "/triggers",
    body: object = None,
) -> tuple[int, dict[str, str], bytes]:
    context = ssl.create_default_context(cafile=str(ca))
    if client is not None:
        context.load_cert_chain(client, client.with_suffix(".key"))
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": COMMAND} if text else {})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def test_a_certificate_stands_for_a_token(tmp_path: Path) -> None:
    own, _ = make_certificate(tmp_path, "door")
    ours, _ = make_certificate(tmp_path, "ucdn.example.com")
    theirs, _ = make_certificate(tmp_path, "other.example.com")
    nobody, _ = make_certificate(tmp_path, "nobody.example.com")
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(ours.read_bytes() + theirs.read_bytes() + nobody.read_bytes())
    stranger, _ = make_certificate(tmp_path, "stranger")
    door: dict[str, object] = {
        "cert_file": str(own),
        "key_file": str(own.with_suffix(".key")),
        "client_ca_file": str(trusted),
        "certificates": {"ucdn.example.com": "ucdn", "other.example.com": "other"},
    }
    tables = client_table("ucdn", "*.example.com") + client_table("other") + site_tables("*.example.com")
    with (
        FakeNode() as node,
        CdniEngine(tmp_path, fake_table(node.url, name="edge-1") + tables, door=door) as engine,
    ):
        port = engine.door_port
        body = {"trigger": {"type": "purge", "content.urls": [URL]}, "cdn-path": [UPSTREAM]}
        status, headers, _ = ask(port, own, ours, "POST", body=body)
        assert (status, headers["location"].startswith(f"https://127.0.0.1:{port}/triggers/")) == (201, True)
        assert json.loads(ask(port, own, ours)[2])["triggers"] == [headers["location"]]
        assert json.loads(ask(port, own, theirs)[2])["triggers"] == []
        assert ask(port, own, theirs, path="/triggers/" + headers["location"].rsplit("/", 1)[1])[0] == 404
        assert ask(port, own, nobody)[0] == 403
        for client in (stranger, None):
            with pytest.raises((ssl.SSLError, OSError)):
                ask(port, own, client)
        command = [
            sys.executable,
            "-m",
            "engine",
            "cdni",
            "list",
            "--to",
            f"https://127.0.0.1:{port}/triggers",
        ]
        command += ["--ca", str(own), "--cert", str(ours), "--key", str(ours.with_suffix(".key"))]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PURGELINE_TOKEN": ""}
        )
        assert (done.returncode, done.stdout.split()) == (0, [headers["location"]]), done
        assert "Traceback" not in engine.log()


def test_a_certificate_that_cannot_be_used_is_found_before_the_start(tmp_path: Path) -> None:
    """One that is not there, and one whose key has a password, for which nobody is asked."""
    own, _ = make_certificate(tmp_path, "door")
    key = load_pem_private_key(own.with_suffix(".key").read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    config = tmp_path / "engine.toml"
    for cert_file, key_file in ((tmp_path / "none.pem", ""), (own, locked)):
        config.write_text(cdni_table(1, cert_file=str(cert_file), key_file=str(key_file)))
        command = [sys.executable, "-m", "engine", "check-config", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        assert (done.returncode, "cert_file, key_file or client_ca_file" in done.stderr) == (2, True), done
