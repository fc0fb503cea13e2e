"""A settled task, signed by a real engine, and checked by others: offline, by another library, by openssl."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from joserfc import jws
from joserfc.jwk import KeySet

from engine.proof.receipts import verify
from tests.fakes.node import OK, Act, FakeNode
from tests.rigs.engine_process import EngineProcess, fake_table
from tests.rigs.redis_servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fakes.node import Request

URL = "http://img.example.com/takedown.jpg"


def held(request: Request) -> Iterator[bytes | Act]:
    """Answer nothing under /held."""
    yield Act.HANG if "/held" in request.path else OK


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with FakeNode(held) as node:
        folder = tmp_path_factory.mktemp("receipts")
        with EngineProcess(folder, fake_table(node.url, name="edge-1"), name="purge-1") as running:
            yield running


@pytest.fixture(scope="module")
def done(engine: EngineProcess) -> dict[str, Any]:
    return engine.wait_for(engine.submit([URL], id="takedown-1"), "done")


def receipt_of(engine: EngineProcess, task_id: str) -> str:
    status, headers, text = engine.request("GET", f"/v1/engine/task/{task_id}/receipt")
    assert (status, headers["content-type"]) == (200, "application/jose")
    return text.decode()


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engine", *words], capture_output=True, text=True, check=False
    )


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
def test_another_jose_library_reads_a_receipt_with_the_keys_of_the_engine(
    engine: EngineProcess, done: dict[str, Any]
) -> None:
    keys = KeySet.import_key_set(engine.get("/v1/engine/keys"))
    found = jws.deserialize_compact(receipt_of(engine, "takedown-1"), keys, algorithms=["EdDSA"])
    said = json.loads(found.payload)
    assert said["task"] == done
    assert said["engine"] == "purge-1"
    assert [(node["name"], node["acked"]) for node in said["task"]["nodes"]] == [("edge-1", 1)]
    assert said["task"]["by"] == {"token": "anonymous", "address": "127.0.0.1", "door": "http"}
    [key] = keys.keys
    assert key.thumbprint() == key.kid == found.protected["kid"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_finds_the_signature_good(
    engine: EngineProcess, done: dict[str, Any], tmp_path: Path
) -> None:
    content, _, signature = receipt_of(engine, done["task_id"]).rpartition(".")
    [key] = engine.get("/v1/engine/keys")["keys"]
    start = bytes.fromhex("302a300506032b6570032100")  # of every public Ed25519 key, RFC 8410
    (tmp_path / "key.der").write_bytes(start + base64.urlsafe_b64decode(key["x"] + "="))
    (tmp_path / "signature").write_bytes(base64.urlsafe_b64decode(signature + "=="))
    (tmp_path / "content").write_text(content)
    check = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key.der", "-rawin"]
    check += ["-in", "content", "-sigfile", "signature"]
    said = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout.strip()) == (0, "Signature Verified Successfully")


def test_what_has_not_settled_and_what_is_not_there_has_no_receipt(engine: EngineProcess) -> None:
    task_id = engine.submit(["http://img.example.com/held"])
    status, _, text = engine.request("GET", f"/v1/engine/task/{task_id}/receipt")
    assert status == 409
    assert "a receipt is of one that is done, failed or cancelled" in json.loads(text)["detail"]
    assert engine.request("DELETE", f"/v1/engine/task/{task_id}")[0] == 200
    assert json.loads(verify_text(engine, task_id))["task"]["state"] == "cancelled"
    assert engine.request("GET", "/v1/engine/task/nobody/receipt")[0] == 404


def verify_text(engine: EngineProcess, task_id: str) -> str:
    return json.dumps(verify(receipt_of(engine, task_id), engine.get("/v1/engine/keys")["keys"]))


def test_the_command_line_checks_a_receipt_offline_and_against_the_task_as_it_is_now(
    engine: EngineProcess, done: dict[str, Any], tmp_path: Path
) -> None:
    here = ("--engine", f"http://127.0.0.1:{engine.port}")
    nowhere = ("--engine", "http://127.0.0.1:1")
    receipt, keys = tmp_path / "r.jws", tmp_path / "keys.json"
    receipt.write_text(command("receipt", done["task_id"], *here).stdout)
    keys.write_text(command("keys", *here).stdout)
    said = command("verify-receipt", str(receipt), "--keys", str(keys), *nowhere)
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert lines[0] == "receipt good"
    assert "task_id takedown-1" in lines
    assert f"target {URL}" in lines
    assert any(line.startswith("node edge-1 layer edge total 1 acked 1") for line in lines)
    assert command("verify-receipt", str(receipt), "--live", *here).returncode == 0
    assert command("verify-receipt", str(receipt), *nowhere).returncode == 3
    assert command("verify-receipt", str(receipt), "--keys", str(receipt)).returncode == 2
    text = receipt.read_text()
    receipt.write_text(text[:-10] + ("A" if text[-10] != "A" else "B") + text[-9:])
    said = command("verify-receipt", str(receipt), "--keys", str(keys), "--json")
    assert said.returncode == 1
    assert "was changed after it was signed" in json.loads(said.stderr)["error"]


@pytest.mark.redis
def test_engines_of_one_redis_tell_each_others_keys(tmp_path: Path) -> None:
    with FakeNode() as node, RedisServer(tmp_path / "redis") as redis:
        store = f'[store]\nurl = "{redis.url}"\n' + fake_table(node.url, name="edge-1")
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        with EngineProcess(tmp_path / "a", store) as one, EngineProcess(tmp_path / "b", store) as other:
            task_id = one.submit([URL])
            one.wait_for(task_id, "done")
            receipt = receipt_of(one, task_id)
            keys = other.get("/v1/engine/keys")["keys"]
            assert len(keys) == 2
            assert verify(receipt, keys)["task"]["task_id"] == task_id
            assert one.get("/v1/engine/keys")["keys"] == keys[::-1]
            assert '"d"' not in json.dumps(keys)
