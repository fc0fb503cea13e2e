"""What a start does not read and does not do."""

import contextlib
import gc
import os
import ssl
from pathlib import Path

import pytest

from engine.base.imports import quick_imports
from tests.fakes.certificate import make_certificate


def authorities() -> int:
    """Return how many certificates of authorities a context of this moment trusts."""
    return ssl.create_default_context().cert_store_stats()["x509_ca"]


def test_contexts_made_while_it_imports_read_no_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Afterwards they do, as the environment says."""
    path, _ = make_certificate(tmp_path, "own")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with quick_imports():
        assert authorities() == 0
    assert authorities() == 1
    assert "SSL_CERT_DIR" not in os.environ


def test_a_failed_import_leaves_all_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector runs again, and the environment is the caller's."""
    monkeypatch.setenv("SSL_CERT_FILE", "of the caller")
    was_collecting = True
    with contextlib.suppress(ImportError), quick_imports():
        was_collecting = gc.isenabled()
        raise ImportError
    assert not was_collecting
    assert gc.isenabled()
    assert os.environ["SSL_CERT_FILE"] == "of the caller"
