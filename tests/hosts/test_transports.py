"""The ways to a repository: hosts and servers that are unknown, silent or lying. Real sshd and web server."""

import io
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from release.errors import ReleaseError, RepositoryError, SettingsError
from release.repository.repository import Repository, open_repository
from release.repository.signed import INDEX
from release.repository.transports.folder import FolderTransport
from release.repository.transports.http import _NoDowngrade
from release.settings import Settings, load_settings
from tests.fakes import artefacts
from tests.rigs.sftpd import Sshd

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd")).running() as server:
        yield server


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    return artefacts.signer(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "srv" / "repository"


def test_an_ssh_host_whose_key_is_not_known_is_refused(
    sshd: Sshd, folder: Path, chosen: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(sshd.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    try:
        sshd.known_hosts.write_text("")
        with pytest.raises(RepositoryError, match=r"not found in known_hosts; check its fingerprint"):
            open_repository(sshd.url(folder), chosen).index()
        sshd.trust(sshd.make_key("another"))
        with pytest.raises(RepositoryError, match=r"shows another key than the known one .* find out why"):
            open_repository(sshd.url(folder), chosen).index()
        elsewhere = tmp_path / "known"
        sshd.trust()
        sshd.known_hosts.rename(elsewhere)
        with open_repository(
            sshd.url(folder), msgspec.structs.replace(chosen, known_hosts=str(elsewhere))
        ) as opened:
            opened.publish(artefacts.make(tmp_path))
    finally:
        sshd.trust()


def test_an_ssh_host_that_takes_no_key_or_does_not_answer_says_so(
    sshd: Sshd, folder: Path, chosen: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    bare = tmp_path / "home"
    (bare / ".ssh").mkdir(parents=True)
    (bare / ".ssh" / "known_hosts").write_text(sshd.known_hosts.read_text())
    monkeypatch.setenv("HOME", str(bare))
    with pytest.raises(RepositoryError, match=r"takes none of your keys|No authentication methods"):
        open_repository(sshd.url(folder), chosen).index()
    with pytest.raises(RepositoryError, match=r"Unable to connect|refused"):
        open_repository("ssh://127.0.0.1:1/srv", chosen).index()


def test_a_machine_that_stays_silent_is_not_waited_for(
    chosen: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    hasty = msgspec.structs.replace(chosen, connect_timeout_s=0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        for url in (f"ssh://127.0.0.1:{port}{folder}", f"http://127.0.0.1:{port}/"):
            with pytest.raises(RepositoryError, match=rf"127\.0\.0\.1:{port}.*(banner|timed out|in time)"):
                open_repository(url, hasty).index()
        assert time.monotonic() - began < 45


# HTTP


class Site(SimpleHTTPRequestHandler):
    """Serves a folder; the server's *cut* and *moved* change what it answers."""

    def do_GET(self) -> None:
        server: Any = self.server
        if server.moved:
            self.send_response(302)
            self.send_header("Location", server.moved + self.path)
            self.end_headers()
        elif server.cut and self.path.endswith(".gz"):
            content = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: server.cut])
            self.close_connection = True
        else:
            super().do_GET()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[Any]:
    def handle(*args: Any) -> BaseHTTPRequestHandler:
        return Site(*args, directory=str(folder))

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), handle)
    server.cut, server.moved = 0, ""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def site(folder: Path) -> Iterator[Any]:
    with serving(folder) as server:
        yield server


def test_a_repository_is_read_over_http(site: Any, folder: Path, chosen: Settings, tmp_path: Path) -> None:
    over_http = open_repository(f"{site.url}/", chosen)
    folder.mkdir(parents=True)
    with pytest.raises(RepositoryError, match=r"has no index\.json"):
        over_http.index()
    path = artefacts.make(tmp_path, "1.0+g1.dirty", content=os.urandom(400_000))
    Repository(FolderTransport(folder), chosen).publish(path, channel="stable")
    index = over_http.index()
    found = index.find(index.channel("stable"), python="cp311", platform="linux_x86_64")
    assert over_http.fetch(found, tmp_path / "to").read_bytes() == path.read_bytes()
    assert over_http.envelope() == (folder / INDEX).read_bytes()
    with pytest.raises(RepositoryError, match=r"can only be read; with --repository, publish to the folder"):
        over_http.publish(artefacts.make(tmp_path, "1.1"))


def test_a_download_that_ends_early_is_refused(
    site: Any, folder: Path, chosen: Settings, tmp_path: Path
) -> None:
    Repository(FolderTransport(folder), chosen).publish(artefacts.make(tmp_path, content=os.urandom(400_000)))
    over_http = open_repository(site.url, chosen)
    found = over_http.index().artefacts[0]
    site.cut = 300_000
    with pytest.raises(ReleaseError, match="ended"):
        over_http.fetch(found, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []
    site.cut = 0
    (folder / found.file_name).unlink()
    with pytest.raises(RepositoryError, match="the server has no such file"):
        over_http.fetch(found, tmp_path / "to")


def test_redirects_are_followed_but_never_out_of_https(
    site: Any, folder: Path, chosen: Settings, tmp_path: Path
) -> None:
    Repository(FolderTransport(folder), chosen).publish(artefacts.make(tmp_path))
    with serving(folder) as inner:
        site.moved = inner.url
        assert open_repository(site.url, chosen).index().artefacts
    request = urllib.request.Request("https://repo.example/index.json")
    with pytest.raises(
        RepositoryError, match=r"redirects from https to http://repo\.example/; that is refused"
    ):
        _NoDowngrade().redirect_request(request, io.BytesIO(), 302, "", HTTPMessage(), "http://repo.example/")


def test_a_server_that_is_not_there_says_so(chosen: Settings) -> None:
    with pytest.raises(RepositoryError, match=r"cannot be reached: .*refused"):
        open_repository("http://127.0.0.1:1/", chosen).index()


@pytest.mark.parametrize(
    "url", ["ftp://x/y", "ssh://host", "ssh://u:secret@host/p", "http:///x", " ", "http://x:y/"]
)
def test_a_url_of_another_kind_is_refused(url: str, chosen: Settings) -> None:
    with pytest.raises(SettingsError, match=r"repository"):
        open_repository(url, chosen)


def test_a_relative_folder_of_the_command_line_is_meant_from_here(
    chosen: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the settings is absolute by then."""
    monkeypatch.chdir(tmp_path)
    assert open_repository("there", chosen).url == str(tmp_path / "there")
    assert open_repository("", load_settings(environ={})).url == str(ROOT / "dist/repository")
