"""What an operator reads where a real Redis takes no connection: what is wrong, and what mends it."""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.config.redis_url import parse_redis_url
from engine.errors import StoreError, StoreUnusableError
from engine.store.redis.link import Link
from release.lab.caches import free_port
from tests.fakes.certificate import make_certificate
from tests.rigs.own_network import own_network
from tests.rigs.redis_servers import RedisServer

pytestmark = pytest.mark.redis

FOREIGN = "192.0.2.7"  #: no address of the loopback's network, so none that protected mode takes

Open = Callable[..., Link]


@pytest.fixture
def opened() -> Iterator[Open]:
    links: list[Link] = []

    def open_link(url: str, timeout_s: float = 5) -> Link:
        links.append(Link(parse_redis_url(url), timeout_s=timeout_s, connections_max=2))
        return links[-1]

    yield open_link
    for link in links:
        link.close()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("plain"), fsync="none") as server:
        yield server


@pytest.fixture(scope="module")
def cluster_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("cluster"), fsync="none", cluster_enabled="yes") as server:
        server.ask("CLUSTER", "ADDSLOTSRANGE", 0, 10)
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("certificate"), "redis")[0]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[tuple[RedisServer, int]]:
    port = free_port()
    with RedisServer(
        tmp_path_factory.mktemp("tls"),
        fsync="none",
        tls_port=port,
        tls_auth_clients="no",
        tls_ca_cert_file=certificate,
        tls_cert_file=certificate,
        tls_key_file=certificate.with_suffix(".key"),
    ) as server:
        yield server, port


def why(link: Link, kind: type[StoreError] = StoreError) -> str:
    """Return what a command comes to, twice: what is said once must be said by who comes next, too."""
    texts = set()
    for _ in range(2):
        with pytest.raises(kind) as caught:
            link.one("PING")
        texts.add(str(caught.value).removeprefix(f"{link.url}: "))
    [text] = texts
    return text


def test_protected_mode_is_named_whatever_the_greeting_came_to(tmp_path: Path, opened: Open) -> None:
    """Without an address or a password Debian's Redis hangs up, before or while the greeting is sent."""
    with own_network():
        subprocess.run(["ip", "address", "add", f"{FOREIGN}/32", "dev", "lo"], check=True)
        server = RedisServer(tmp_path, fsync="none", protected_mode="yes", bind=f"127.0.0.1 {FOREIGN}")
        with server:
            for url in ("redis://{}", "redis://{}/3", "redis://u:p@{}", "rediss://{}", "redis+cluster://{}"):
                link = opened(url.format(f"{FOREIGN}:{server.port}"))
                assert why(link).startswith("it is in protected mode"), url
            link = opened(f"redis+sentinel://{FOREIGN}:{server.port}/main")
            assert why(link).startswith("it is in protected mode")
            server.set("protected-mode", "no")
            link = opened(f"redis://{FOREIGN}:{server.port}")
            assert link.one("PING") == b"PONG"


def test_a_password_that_is_missing_wrong_or_too_much_is_said(plain: RedisServer, opened: Open) -> None:
    place = f"127.0.0.1:{plain.port}"
    said = why(opened(f"redis://:secret@{place}"), StoreUnusableError)
    assert said == "it has no password for the default user, and the URL has one"
    plain.set("requirepass", "secret")
    try:
        said = why(opened(f"redis://{place}/3"), StoreUnusableError)
        assert said == "it asks for a password, and the URL has none: redis://:PASSWORD@…"
        said = why(opened(f"redis://:no@{place}"), StoreUnusableError)
        assert said == "it refuses the password of the default user, or the user is off"
        said = why(opened(f"redis://me:no@{place}/3"), StoreUnusableError)
        assert said == "it refuses the password of the user me, or the user is off"
        link = opened(f"redis://:secret@{place}/3")
        assert link.one("PING") == b"PONG"
    finally:
        with socket.create_connection(("127.0.0.1", plain.port)) as connection:
            connection.sendall(b"AUTH secret\r\nCONFIG SET requirepass ''\r\n")
            assert connection.recv(100)


def test_what_is_no_such_redis_is_said(plain: RedisServer, cluster_server: RedisServer, opened: Open) -> None:
    place = f"127.0.0.1:{plain.port}"
    assert why(opened(f"redis://{place}/99")) == "it has no database 99: `databases` there says how many"
    assert why(opened(f"redis+cluster://{place}")) == "it is no cluster: use redis://"
    assert why(opened(f"redis+sentinel://{place}/main")).startswith("it is no Sentinel;")
    link = opened(f"redis://127.0.0.1:{cluster_server.port}/3")
    assert why(link) == "it is a server of a cluster: use redis+cluster://"


def test_tls_where_it_is_not_and_none_where_it_is(
    plain: RedisServer,
    tls: tuple[RedisServer, int],
    certificate: Path,
    opened: Open,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, port = tls
    said = why(opened(f"rediss://127.0.0.1:{plain.port}", timeout_s=0.3))
    assert said == "it does not speak TLS: use redis://, or set tls-port there"
    assert why(opened(f"redis://127.0.0.1:{port}")) == "it speaks TLS: use rediss://"
    assert why(opened(f"redis://:secret@127.0.0.1:{port}/3")) == "it speaks TLS: use rediss://"
    assert why(opened(f"redis+cluster://127.0.0.1:{port}")).startswith("it speaks TLS, which")
    said = why(opened(f"rediss://127.0.0.1:{port}"))
    assert said.startswith("its certificate is not trusted here (self-signed certificate)")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    link = opened(f"rediss://127.0.0.1:{port}")
    assert link.one("PING") == b"PONG"
    server.set("tls-auth-clients", "yes")
    assert "it asks clients for a certificate" in why(opened(f"rediss://127.0.0.1:{port}"))


def test_who_hangs_up_on_everybody_is_said_and_who_is_slow_or_away_is_not(opened: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        link = opened(f"redis://{place}", timeout_s=0.2)
        assert why(link) == "Timeout reading from socket"
        hanging_up = threading.Thread(target=hang_up, args=(server,))
        hanging_up.start()
        assert why(opened(f"redis://{place}")).startswith("it ends every connection at once")
        server.shutdown(socket.SHUT_RDWR)
        hanging_up.join()
    assert "refused" in why(opened(f"redis://{place}"))


def hang_up(server: socket.socket) -> None:
    """Do as a proxy without a server behind it does, until the socket is shut down."""
    with contextlib.suppress(OSError):
        while True:
            server.accept()[0].close()
