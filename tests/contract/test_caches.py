"""The launchers, the templates they render and the four real servers, spoken to over plain sockets.

What is checked here is what the engine builds on: statuses, body lengths, order of answers.
"""

import itertools
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from release.lab.caches import (
    Cache,
    CacheError,
    available,
    free_port,
    start_ats,
    start_cache,
    start_nginx,
    start_varnish,
)
from release.lab.origin import Origin
from tests.waiting import wait_until

DRIVERS = ("varnish", "ats", "nginx", "squid")
HOST = "img.example.com"
ANSWER_TIMEOUT_S = 10.0

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    reason: str
    headers: dict[str, str]
    body: bytes


class Wire:
    """One connection, byte for byte."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_TIMEOUT_S)
        self._buffer = b""

    def send(self, method: str, path: str, *, host: str = HOST, **headers: str) -> None:
        """Send one request; ``Purgeline_Key="…"`` becomes the header ``Purgeline-Key``."""
        self.socket.sendall(request(method, path, host=host, **headers))

    def read(self, *, has_body: bool = True) -> Answer:
        """Read one answer; the one to a HEAD has no body, whatever its Content-Length."""
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers["content-length"]) if has_body else 0
        while len(self._buffer) < length:
            self._receive()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        _, status, reason = status_line.split(" ", 2)
        return Answer(int(status), reason, headers, body)

    def exchange(self, method: str, path: str) -> Answer:
        self.send(method, path)
        return self.read()

    def has_input(self, *, wait_s: float) -> bool:
        return bool(self._buffer or select.select([self.socket], [], [], wait_s)[0])

    def is_ended(self) -> bool:
        """Wait for the end of the connection; whether it came before more bytes."""
        return self._buffer == b"" and self.socket.recv(1) == b""

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionResetError(f"closed after {self._buffer!r}")
        self._buffer += data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()


def request(method: str, path: str, *, host: str = HOST, **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def ask(cache: Cache, method: str, path: str, *, host: str = HOST, **headers: str) -> Answer:
    """Send one request on a connection of its own."""
    with Wire(cache.port) as wire:
        wire.send(method, path, host=host, **headers)
        return wire.read()


def get(cache: Cache, path: str, *, host: str = HOST, **headers: str) -> str:
    """Fetch through *cache*; the body as text."""
    answer = ask(cache, "GET", path, host=host, **headers)
    assert answer.status == 200
    return answer.body.decode()


def purge(cache: Cache, path: str, *, host: str = HOST, **headers: str) -> Answer:
    return ask(cache, "PURGE", cache.purge_path + path, host=host, **headers)


def is_hit(cache: Cache, origin: Origin, path: str, *, host: str = HOST, **headers: str) -> bool:
    """Fetch *path*; whether the origin did not notice."""
    before = origin.hits[host, path]
    get(cache, path, host=host, **headers)
    return origin.hits[host, path] == before


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(scope="module")
def running_origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def origin(running_origin: Origin) -> Iterator[Origin]:
    yield running_origin
    running_origin.reset()
    running_origin.version = "v1"


@pytest.fixture(scope="module", params=DRIVERS)
def cache(request: pytest.FixtureRequest, servers: Path, running_origin: Origin) -> Iterator[Cache]:
    with start_cache(request.param, servers, name=request.param, backend=running_origin.address) as started:
        yield started


@pytest.fixture(scope="module")
def varnish(servers: Path, running_origin: Origin) -> Iterator[Cache]:
    with start_varnish(servers, name="edge", backend=running_origin.address) as started:
        yield started


@pytest.fixture
def path() -> str:
    """A path no test has used."""
    return f"/{next(_numbers)}.jpg"


# --- all four ---


def test_all_four_servers_are_found() -> None:
    """The machine of the tests has them all; each is a program."""
    assert tuple(available()) == DRIVERS
    assert all(os.access(program, os.X_OK) for program in available().values())


def test_a_started_cache_says_where_it_is(cache: Cache) -> None:
    """Name, address and process are known as soon as it is started."""
    assert cache.is_running
    assert cache.pid is not None
    assert os.getpgid(cache.pid) == cache.pid
    assert cache.url == f"http://127.0.0.1:{cache.port}"
    assert cache.name == cache.driver == cache.workdir.name


def test_servers_do_not_run_as_root(cache: Cache) -> None:
    """Whoever starts them, none of their processes belongs to root."""
    assert cache.pid is not None
    assert Path(f"/proc/{cache.pid}").stat().st_uid != 0


def test_the_second_get_does_not_reach_the_origin(cache: Cache, origin: Origin, path: str) -> None:
    """max-age from the origin is enough for all four to store a response."""
    assert get(cache, path) == f"v1 {HOST}{path}"
    origin.version = "v2"
    assert get(cache, path) == f"v1 {HOST}{path}"
    assert origin.hits[HOST, path] == 1


def test_hosts_do_not_share_objects(cache: Cache, origin: Origin, path: str) -> None:
    """Any host is served, and the host is part of the key."""
    assert get(cache, path, host="a.example.com") == f"v1 a.example.com{path}"
    assert get(cache, path, host="b.example.org") == f"v1 b.example.org{path}"


def test_purge_drops_the_object(cache: Cache, origin: Origin, path: str) -> None:
    """After the answer to the PURGE the next GET sees the new content."""
    get(cache, path)
    origin.version = "v2"
    assert purge(cache, path).status == 200
    assert get(cache, path) == f"v2 {HOST}{path}"
    assert origin.methods == {"GET": 2}


def test_answers_to_purges_bear_the_mark_of_the_node(cache: Cache, origin: Origin, path: str) -> None:
    """Hit and miss; a visitor does not see it. The nonce comes back, though it is not sent on by a proxy."""
    get(cache, path)
    for _ in range(2):
        headers = {"Connection": "keep-alive, Purgeline-Nonce", "Purgeline_Nonce": "0123abcd"}
        answer = purge(cache, path, **headers)
        assert answer.headers["purgeline-cache"] == f"{cache.driver} {cache.name}"
        assert answer.headers["purgeline-nonce"] == "0123abcd"
    assert "purgeline-cache" not in ask(cache, "GET", path).headers


@pytest.mark.parametrize("header", ["Via", "X-Varnish", "X-Forwarded-For"])
def test_a_purge_that_another_cache_passed_on_is_refused(
    header: str, cache: Cache, origin: Origin, path: str
) -> None:
    """The other one did not purge itself. The refusal has the mark: it shows who refused."""
    get(cache, path)
    answer = purge(cache, path, **{header.replace("-", "_"): "1.1 edge"})
    assert answer.status == (421 if cache.driver == "nginx" else 403)
    assert answer.headers["purgeline-cache"] == f"{cache.driver} {cache.name}"
    assert is_hit(cache, origin, path)
    assert origin.methods == {"GET": 1}


@pytest.mark.parametrize("cache", ["varnish"], indirect=True, scope="module")
@pytest.mark.parametrize(
    ("via", "status"),
    [
        ("1.1 edge (Varnish/8.0)", 200),
        ("1.1 edge (Vinyl-Cache/9.1)", 200),
        ("1.1 parent, 1.1 edge (Varnish/8.0)", 403),
        ("1.1 parent (squid/5.7)", 403),
    ],
)
def test_a_varnish_that_names_itself_in_the_request_is_not_another_cache(
    via: str, status: int, cache: Cache, path: str
) -> None:
    """As 7.2 and later do, before VCL runs; there the first two are another cache's, and answered 403."""
    assert purge(cache, path, Via=via).status == status


@pytest.mark.parametrize(
    ("cache", "hit", "miss"),
    [
        ("varnish", (200, b""), (200, b"")),
        ("ats", (200, b""), (404, b"")),
        ("nginx", (200, b"Successful purge"), (404, b"404 Not Found")),
        ("squid", (200, b""), (404, b"")),
    ],
    indirect=["cache"],
    scope="module",
)
def test_purge_answers_hit_and_miss(
    cache: Cache, origin: Origin, path: str, hit: tuple[int, bytes], miss: tuple[int, bytes]
) -> None:
    """Only nginx sends a body, and only Varnish says 200 for what was not there."""
    get(cache, path)
    with Wire(cache.port) as wire:
        for status, body in (hit, miss):
            wire.send("PURGE", cache.purge_path + path)
            answer = wire.read()
            assert answer.status == status
            assert (body in answer.body) if body else (answer.body == b"")
            assert answer.headers["connection"] == "keep-alive"


def test_purge_takes_encoding_and_query_as_they_are(cache: Cache, origin: Origin, path: str) -> None:
    """%2F is not a slash: the one spelled as in the purge goes, its neighbours stay."""
    target = f"{path}/a%20b%2Fc?x=%20y&z=/1"
    neighbours = (f"{path}/a%20b/c?x=%20y&z=/1", f"{path}/a%20b%2Fc?x=%20y&z=/2", f"{path}/a%20b%2Fc")
    for url in (target, *neighbours):
        assert not is_hit(cache, origin, url)
    assert purge(cache, target).status == 200
    assert all(is_hit(cache, origin, url) for url in neighbours)
    assert not is_hit(cache, origin, target)


def test_the_case_of_the_host_does_not_matter(cache: Cache, origin: Origin, path: str) -> None:
    """Host names are compared in lower case, in GET as in PURGE."""
    get(cache, path)
    assert purge(cache, path, host="IMG.Example.COM").status == 200
    assert not is_hit(cache, origin, path)


def test_a_port_in_the_host_is_part_of_the_key(cache: Cache, origin: Origin, path: str) -> None:
    """With a port it is another object: the origin saw the port, too."""
    assert get(cache, path) == f"v1 {HOST}{path}"
    assert get(cache, path, host=f"{HOST}:8080") == f"v1 {HOST}:8080{path}"
    assert purge(cache, path, host=f"{HOST}:8080").status == 200
    assert is_hit(cache, origin, path)
    assert not is_hit(cache, origin, path, host=f"{HOST}:8080")


def test_pipelined_purges_are_answered_in_order(cache: Cache, origin: Origin, path: str) -> None:
    """Every third object is cached, and exactly those answers say so."""
    paths = [f"{path}/{number}" for number in range(100)]
    for cached in paths[::3]:
        get(cache, cached)
    with Wire(cache.port) as wire:
        wire.socket.sendall(b"".join(request("PURGE", cache.purge_path + each) for each in paths))
        answers = [wire.read() for _ in paths]
    was_cached = [answer.status == 200 for answer in answers]
    if cache.driver == "varnish":
        was_cached = [answer.headers["purgeline-count"] == "1" for answer in answers]
    assert was_cached == [number % 3 == 0 for number in range(100)]


@pytest.mark.parametrize(
    ("driver", "has_body"), [("varnish", False), ("ats", True), ("nginx", True), ("squid", True)]
)
def test_a_client_outside_the_access_list_is_refused(
    driver: str, has_body: bool, servers: Path, origin: Origin, path: str
) -> None:
    """403 from all, the connection stays, and the object is still served."""
    with (
        start_cache(
            driver, servers, name=f"{driver}-closed", backend=origin.address, purge_allowed=False
        ) as closed,
        Wire(closed.port) as wire,
    ):
        get(closed, path)
        for _ in range(2):
            wire.send("PURGE", closed.purge_path + path)
            answer = wire.read()
            assert answer.status == 403
            assert bool(answer.body) is has_body
            assert answer.headers["connection"] == "keep-alive"
        assert is_hit(closed, origin, path)


def test_a_killed_cache_starts_again_on_its_port(cache: Cache, origin: Origin, path: str) -> None:
    """Killed in the middle of a connection: refused while it is down, then the same address serves."""
    before, port = cache.pid, cache.port
    with Wire(port) as wire:
        wire.send("GET", path)
        wire.read()
        cache.kill()
        assert (cache.pid, cache.is_running) == (None, False)
        with pytest.raises(ConnectionRefusedError):
            Wire(port)
        with pytest.raises(ConnectionError):
            wire.exchange("GET", path)
    cache.start()
    assert cache.pid not in {None, before}
    assert cache.port == port
    assert get(cache, path) == f"v1 {HOST}{path}"


def test_a_stopped_cache_starts_again(cache: Cache, origin: Origin, path: str) -> None:
    """A second stop does no harm, nor does a second start."""
    cache.stop()
    cache.stop()
    assert not cache.is_running
    cache.start()
    pid = cache.pid
    cache.start()
    assert cache.pid == pid
    assert get(cache, path) == f"v1 {HOST}{path}"


def test_a_paused_cache_accepts_but_answers_only_when_resumed(
    cache: Cache, origin: Origin, path: str
) -> None:
    """As a hung server does: the connection works, the answer does not come."""
    cache.pause()
    with Wire(cache.port) as wire:
        wire.send("PURGE", cache.purge_path + path)
        assert cache.is_running
        assert not wire.has_input(wait_s=0.2)
        cache.resume()
        assert wire.read().status in {200, 404}


def test_big_bodies_come_through(cache: Cache, origin: Origin, path: str) -> None:
    """4 MiB and a bit, stored and served again."""
    origin.set_size(HOST, path, 4 * 1024 * 1024 + 1)
    bodies = {ask(cache, "GET", path).body for _ in range(2)}
    assert [len(body) for body in bodies] == [4 * 1024 * 1024 + 1]


def test_an_origin_in_trouble_shows(cache: Cache, origin: Origin, path: str) -> None:
    """A 5xx is passed on and not stored."""
    origin.status = 503
    assert ask(cache, "GET", path).status in {502, 503}
    origin.status = None
    assert get(cache, path) == f"v1 {HOST}{path}"


def test_one_cache_may_stand_behind_another(cache: Cache, servers: Path, origin: Origin, path: str) -> None:
    """Host and path reach the parent as the client sent them; both layers need the purge."""
    name = f"parent-of-{cache.name}"
    host = f"{HOST}:8080"
    with (
        start_varnish(servers, name=name, backend=origin.address, is_parent=True) as parent,
        start_cache(cache.driver, servers, name=f"{cache.name}-edge", backend=parent.address) as edge,
    ):
        get(edge, path, host=host)
        assert purge(edge, path, host=host).status == 200
        assert is_hit(edge, origin, path, host=host)
        assert purge(parent, path, host=host).headers["purgeline-count"] == "1"


# --- the process around it ---


def test_a_cache_that_cannot_start_says_why(servers: Path) -> None:
    """The error carries the server's own words."""
    with pytest.raises(CacheError, match=r"broken: .* ended at start") as caught:
        start_varnish(servers, name="broken", backend="no such host:80")
    assert "no such host" in caught.value.log


def test_a_taken_port_is_an_error(servers: Path, origin: Origin) -> None:
    """Another server's answer is not taken for ours."""
    with pytest.raises(CacheError, match=f"port {origin.port} is taken"):
        start_nginx(servers, name="late", backend=origin.address, port=origin.port)


def test_an_unknown_driver_is_an_error(servers: Path) -> None:
    """The message names those there are."""
    with pytest.raises(CacheError, match="varnish, ats, nginx, squid"):
        start_cache("apache", servers, name="x", backend="127.0.0.1:9")


def test_free_ports_are_not_given_twice() -> None:
    """Also when nobody listens on the first one yet."""
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50


@pytest.mark.parametrize("driver", DRIVERS)
def test_no_server_outlives_a_killed_python(driver: str, tmp_path: Path, origin: Origin) -> None:
    """SIGKILL of the starting process takes the server and its workers along."""
    script = (
        "import sys; from pathlib import Path\n"
        "from release.lab.caches import start_cache\n"
        f"cache = start_cache({driver!r}, Path({str(tmp_path)!r}), name='orphan', "
        f"backend={origin.address!r})\n"
        "print(cache.port, flush=True); sys.stdin.read()\n"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        Wire(port).socket.close()
        parent.send_signal(signal.SIGKILL)

    def is_refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    wait_until(is_refused)
    wait_until(lambda: not list(Path("/dev/shm").glob(f"*{port}*")))


def test_a_killed_squid_leaves_nothing_in_shared_memory(servers: Path, origin: Origin) -> None:
    """It is the one server that writes outside its directory; killed, it cannot clean up itself."""
    with start_cache("squid", servers, name="shm", backend=origin.address) as squid:
        assert list(Path("/dev/shm").glob(f"*{squid.port}*"))
        squid.kill()
        assert not list(Path("/dev/shm").glob(f"*{squid.port}*"))


# --- Traffic Server and nginx ---


def test_ats_answers_404_with_a_body_for_a_host_without_a_rule(
    servers: Path, origin: Origin, path: str
) -> None:
    """That is how a missing remap rule is told from "was not cached"."""
    with start_ats(servers, name="ruled", backend=origin.address, hosts=[HOST]) as ruled:
        assert purge(ruled, path) == Answer(404, "Not Found", purge(ruled, path).headers, b"")
        other = purge(ruled, path, host="other.example.com")
        assert other.status == 404
        assert b"<HTML>" in other.body
        assert other.headers["connection"] == "keep-alive"


def test_nginx_refuses_purge_outside_and_get_inside_the_purge_location(
    servers: Path, origin: Origin, path: str
) -> None:
    """Neither reaches the origin, and a GET purges nothing."""
    with start_nginx(servers, name="strict", backend=origin.address) as strict:
        get(strict, path)
        outside = ask(strict, "PURGE", path)
        assert (outside.status, outside.headers["purgeline-cache"]) == (405, "nginx strict")
        with Wire(strict.port) as wire:
            wire.socket.sendall(f"PURGE /purge{path} HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
            assert wire.read().status == 421
        assert ask(strict, "GET", f"{strict.purge_path}{path}").status == 405
        assert is_hit(strict, origin, path)
        assert origin.methods == {"GET": 1}


def test_nginx_closes_after_keepalive_requests_and_drops_the_tail(
    servers: Path, origin: Origin, path: str
) -> None:
    """What was pipelined behind the last answer is gone: the engine must send it again."""
    with (
        start_nginx(servers, name="short", backend=origin.address, keepalive_requests=5) as short,
        Wire(short.port) as wire,
    ):
        wire.socket.sendall(request("PURGE", short.purge_path + path) * 8)
        answers = [wire.read() for _ in range(5)]
        assert [answer.headers["connection"] for answer in answers] == ["keep-alive"] * 4 + ["close"]
        assert wire.is_ended()


# --- Varnish ---


def test_varnish_purge_counts_and_takes_all_variants(varnish: Cache, origin: Origin, path: str) -> None:
    """Two languages are one URL."""
    origin.set(HOST, path, b"text", headers={"Vary": "Accept-Language"})
    for language in ("de", "en"):
        get(varnish, path, Accept_Language=language)
    answer = purge(varnish, path)
    assert (answer.status, answer.reason, answer.headers["purgeline-count"]) == (200, "Purged", "2")
    wait_until(lambda: purge(varnish, path).headers["purgeline-count"] == "0")  # its expiry thread is done


def test_varnish_purge_does_not_wait_for_a_fetch(varnish: Cache, origin: Origin, path: str) -> None:
    """A slow origin holds up its client, not the purge of the same URL."""
    origin.set(HOST, path, b"slow", delay_s=1.0)
    with Wire(varnish.port) as client:
        client.send("GET", path)
        wait_until(lambda: origin.hits[HOST, path] == 1)
        assert purge(varnish, path).status == 200
        assert not client.has_input(wait_s=0)
        assert client.read().body == b"slow"


def test_varnish_soft_purge_serves_stale_while_it_fetches(varnish: Cache, origin: Origin, path: str) -> None:
    """One client gets the old page at once, and then the new one is there."""
    get(varnish, path)
    origin.version = "v2"
    assert purge(varnish, path, Purgeline_Soft="1").headers["purgeline-count"] == "1"
    assert get(varnish, path) == f"v1 {HOST}{path}"
    wait_until(lambda: get(varnish, path) == f"v2 {HOST}{path}")
    assert origin.hits[HOST, path] == 2


def ban(cache: Cache, host: str, url: str = "") -> Answer:
    headers = {"Purgeline_Ban_Host": host} | ({"Purgeline_Ban_Url": url} if url else {})
    return ask(cache, "BAN", "/", **headers)


@pytest.mark.parametrize(
    ("pattern", "gone"),
    [
        (r"^{path}/a/", {"/a/1.jpg", "/a/2.png?q=1"}),
        (r"^{path}/.*\.jpg$", {"/a/1.jpg", "/b/1.jpg"}),
        (r"\?q=1$", {"/a/2.png?q=1"}),
        (r"^{path}/a/1\.jpg", {"/a/1.jpg"}),
        (r"^{path}/(\"|#|&&|a)/1\.jpg", {"/a/1.jpg"}),
    ],
)
def test_varnish_bans_by_regex_of_path_and_query(
    varnish: Cache, origin: Origin, path: str, pattern: str, gone: set[str]
) -> None:
    """Prefix and regex are one thing, and another host keeps its objects."""
    paths = {f"{path}{rest}" for rest in ("/a/1.jpg", "/a/2.png?q=1", "/b/1.jpg", "/b/2.png")}
    for host, each in itertools.product((HOST, "www.example.com"), paths):
        get(varnish, each, host=host)
    answer = ban(varnish, HOST, pattern.format(path=path))
    assert (answer.status, answer.reason, answer.body) == (200, "Banned", b"")
    assert {each for each in paths if not is_hit(varnish, origin, each)} == {f"{path}{rest}" for rest in gone}
    assert all(is_hit(varnish, origin, each, host="www.example.com") for each in paths)


def test_varnish_bans_a_whole_host(varnish: Cache, origin: Origin, path: str) -> None:
    """The exact host in any case; neither its subdomain nor the same name with a port."""
    hosts = ("ban.example.com", "x.ban.example.com", "ban.example.com:8080", "banxexample.com")
    for host in hosts:
        get(varnish, path, host=host)
    assert ban(varnish, "BAN.example.com").status == 200
    assert [is_hit(varnish, origin, path, host=host) for host in hosts] == [False, True, True, True]


def test_varnish_bans_what_matches_of_all_hosts_below_a_name(
    varnish: Cache, origin: Origin, path: str
) -> None:
    """On any port; neither the name itself nor one that only ends alike."""
    hosts = ("a.many.example.com", "x.y.many.example.com:81", "many.example.com", "toomany.example.com")
    for host, rest in itertools.product(hosts, ("/a", "/b")):
        get(varnish, path + rest, host=host)

    def hits(rest: str) -> list[bool]:
        return [is_hit(varnish, origin, path + rest, host=host) for host in hosts]

    named = {"Purgeline_Ban_Hosts": "*.MANY.example.com", "Purgeline_Ban_Url": f"^{path}/a"}
    answer = ask(varnish, "BAN", "/", **named)
    assert (answer.status, hits("/a"), hits("/b")) == (200, [False, False, True, True], [True] * 4)
    assert ask(varnish, "BAN", "/", Purgeline_Ban_Hosts="*.many.example.com").status == 200
    assert hits("/b") == [False, False, True, True]


def test_varnish_purges_a_key_of_all_hosts_below_a_name(keyed: Cache, origin: Origin, path: str) -> None:
    """Whole keys alone, as of one host."""
    hosts = ("a.keys.example.com", "b.keys.example.com:81", "keys.example.com", "monkeys.example.com")
    for host, (rest, key) in itertools.product(hosts, (("/1", "red a.b"), ("/2", "reddish axb"))):
        origin.set(host, path + rest, b"x", headers={"Surrogate-Key": key})
        get(keyed, path + rest, host=host)
    for key in ("red", "a.b"):
        answer = ask(keyed, "PURGEKEY", "/", Purgeline_Keys=f"*.keys.EXAMPLE.com/{key}")
        assert answer.status == 200
        assert [is_hit(keyed, origin, path + "/1", host=host) for host in hosts] == [False, False, True, True]
        assert all(is_hit(keyed, origin, path + "/2", host=host) for host in hosts)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Purgeline_Ban_Hosts", "a.example.com"),
        ("Purgeline_Ban_Hosts", "*"),
        ("Purgeline_Ban_Hosts", "*.a|b"),
        ("Purgeline_Keys", "a.example.com/k"),
        ("Purgeline_Keys", "*.example.com/a b"),
        ("Purgeline_Keys", "*.example.com/"),
        ("Purgeline_Ban_Host", "*.example.com"),  # as a version sends it that takes a pattern for a host
        ("Purgeline_Key", "*.example.com/k"),
    ],
)
def test_varnish_answers_400_to_a_host_pattern_that_is_none(keyed: Cache, header: str, value: str) -> None:
    method = "BAN" if header.startswith("Purgeline_Ban") else "PURGEKEY"
    assert ask(keyed, method, "/", **{header: value}).status == 400


@pytest.mark.parametrize(
    ("host", "url", "reason"),
    [
        (HOST, "(", "Bad ban: "),
        (HOST, "^/a b", "no spaces"),
        ("a || obj.status == 200", "", "no spaces"),
        ("", "^/a", "needs Purgeline-Ban-Host"),
    ],
)
def test_varnish_answers_400_to_a_ban_that_cannot_be(
    varnish: Cache, host: str, url: str, reason: str
) -> None:
    """The reason says what is wrong, on a connection that goes on."""
    answer = ban(varnish, host, url)
    assert answer.status == 400
    assert reason in answer.reason
    assert answer.headers["connection"] == "keep-alive"


@pytest.fixture(scope="module", params=[True, False], ids=["xkey", "ban"])
def keyed(request: pytest.FixtureRequest, servers: Path, running_origin: Origin) -> Iterator[Cache]:
    name = f"keyed-{request.param}"
    with start_varnish(servers, name=name, backend=running_origin.address, xkey=request.param) as started:
        yield started


def test_varnish_purges_by_surrogate_key(keyed: Cache, origin: Origin, path: str) -> None:
    """Whole keys of that host only; special characters stand for themselves."""
    keys = {"/1": "red a.b+c", "/2": "reddish  blue", "/3": "x,red", "/4": "axb+c", "/5": "RED"}
    for rest, value in keys.items():
        for host in (HOST, "www.example.com"):
            origin.set(host, path + rest, b"x", headers={"Surrogate-Key": value})
            get(keyed, path + rest, host=host)

    def gone_after(key: str) -> set[str]:
        answer = ask(keyed, "PURGEKEY", "/", Purgeline_Key=f"{HOST.upper()}/{key}")
        assert (answer.status, answer.body) == (200, b"")
        return {rest for rest in keys if not is_hit(keyed, origin, path + rest)}

    assert gone_after("red") == {"/1", "/3"}
    assert gone_after("a.b+c") == {"/1"}
    assert gone_after("nothing") == set()
    assert all(is_hit(keyed, origin, path + rest, host="www.example.com") for rest in keys)


CARRIERS = {
    "xkey": "one two",
    "Surrogate-Key": "one two",
    "Cache-Tags": "one,two",
    "X-Cache-Tags": "one, two",
    "X-Magento-Tags": "one,two",
    "Cache-Groups": r'"one";until="x", "with space", "two;a", "b\"one", "two"',
}


def test_varnish_indexes_every_header_in_which_tags_come(keyed: Cache, origin: Origin, path: str) -> None:
    """Whole words of each; of Cache-Groups the strings, in which signs that end words are escaped."""
    for name, value in CARRIERS.items():
        for rest, text in (("", value), ("/not", value.replace("two", "twofold"))):
            origin.set(HOST, f"{path}/{name}{rest}", b"x", headers={name: text})
            get(keyed, f"{path}/{name}{rest}")
    for key in ("two", "space", "with"):
        assert ask(keyed, "PURGEKEY", "/", Purgeline_Key=f"{HOST}/{key}").status == 200
        if key == "two":
            assert [name for name in CARRIERS if is_hit(keyed, origin, f"{path}/{name}")] == []
    assert all(is_hit(keyed, origin, f"{path}/{name}{rest}") for name in CARRIERS for rest in ("", "/not"))
    ask(keyed, "PURGEKEY", "/", Purgeline_Key=f"{HOST}/one")
    assert not any(is_hit(keyed, origin, f"{path}/{name}") for name in CARRIERS)


def test_which_headers_varnish_indexes_is_a_setting(servers: Path, origin: Origin, path: str) -> None:
    with start_varnish(servers, name="own", backend=origin.address, tag_headers=["X-My-Tags"]) as own:
        for rest, name in (("/mine", "X-My-Tags"), ("/other", "Surrogate-Key")):
            origin.set(HOST, path + rest, b"x", headers={name: "one"})
            get(own, path + rest)
        assert ask(own, "PURGEKEY", "/", Purgeline_Key=f"{HOST}/one").status == 200
        assert (is_hit(own, origin, f"{path}/mine"), is_hit(own, origin, f"{path}/other")) == (False, True)


@pytest.mark.parametrize(
    ("method", "target", "fields"),
    [
        ("PURGE", "/", {"xkey": "a"}),
        ("PURGE", "/", {"x_xkey": "a"}),
        ("PURGE", "/", {"x_xkey_soft": "a"}),
        ("BAN", "/", {"x_ban_url": "^/a"}),
        ("PURGE", "/", {"X_Magento_Tags_Pattern": "a"}),
        ("PURGE", "/", {"X_Purge_Method": "regex"}),
        ("PURGE", "/.*", {}),
        ("BAN", "/", {"X_Cache_Tags": "a"}),
        ("BAN", "/tags", {"Cache_Tags": "a"}),
        ("BAN", "/", {}),
        ("PURGEKEYS", "/", {"xkey_softpurge": "a"}),
        ("URIBAN", "/a", {}),
    ],
)
def test_varnish_tells_a_client_of_old_that_it_does_not_do_this(
    method: str, target: str, fields: dict[str, str], varnish: Cache, origin: Origin
) -> None:
    """Neither 200 for a purge of less than was asked for, nor passed on to the origin."""
    answer = ask(varnish, method, target, **fields)
    assert answer.status == (405 if method in {"PURGEKEYS", "URIBAN"} else 400)
    assert "Purge" in answer.reason
    assert method not in origin.methods


def test_varnish_counts_what_a_key_purged(varnish: Cache, origin: Origin, path: str) -> None:
    """With vmod xkey the answer has the number of objects: of purged ones too, until they are taken out."""
    origin.headers = {"Surrogate-Key": f"count{path.replace('/', '-')}"}
    for number in range(3):
        get(varnish, f"{path}/{number}")
    key = f"{HOST}/{origin.headers['Surrogate-Key']}"

    def count() -> str:
        return ask(varnish, "PURGEKEY", "/", Purgeline_Key=key).headers["purgeline-count"]

    assert count() == "3"
    wait_until(lambda: count() == "0")


def test_varnish_soft_purge_by_key_serves_stale(varnish: Cache, origin: Origin, path: str) -> None:
    """As the soft purge of a URL."""
    origin.headers = {"Surrogate-Key": "soft"}
    get(varnish, path)
    origin.version = "v2"
    answer = ask(varnish, "PURGEKEY", "/", Purgeline_Key=f"{HOST}/soft", Purgeline_Soft="1")
    assert (answer.status, answer.headers["purgeline-count"]) == (200, "1")
    assert get(varnish, path) == f"v1 {HOST}{path}"
    wait_until(lambda: get(varnish, path) == f"v2 {HOST}{path}")


@pytest.mark.parametrize("key", ["", "nohost", "/key", f"{HOST}/a b", f"{HOST}/a,b", f"{HOST}/"])
def test_varnish_answers_400_to_a_bad_key(keyed: Cache, key: str) -> None:
    """A key is one word and has a host."""
    assert ask(keyed, "PURGEKEY", "/", Purgeline_Key=key).status == 400


@pytest.mark.parametrize("method", ["PURGE", "BAN", "PURGEKEY"])
def test_varnish_refuses_all_its_purge_methods_to_others(
    method: str, servers: Path, origin: Origin, path: str
) -> None:
    """One access list for all three."""
    with start_varnish(servers, name=f"no-{method}", backend=origin.address, purge_allowed=False) as closed:
        answer = ask(closed, method, path, Purgeline_Ban_Host=HOST, Purgeline_Key=f"{HOST}/a")
        assert (answer.status, answer.reason) == (403, "Forbidden")
        assert not origin.methods


def test_varnish_hides_keys_from_clients_but_not_from_edges(
    keyed: Cache, servers: Path, origin: Origin, path: str
) -> None:
    """A parent passes on what the origin sent; what the VCL adds shows nowhere; Cache-Groups is for all."""
    origin.headers = {"Surrogate-Key": "a b", "X-Cache-Tags": "c", "xkey": "d e", "X-Other": "stays"}
    origin.headers["Cache-Groups"] = '"f"'
    with start_varnish(
        servers, name=f"parent-of-{keyed.name}", backend=origin.address, is_parent=True
    ) as parent:
        at_edge, at_parent = ask(keyed, "GET", path).headers, ask(parent, "GET", path).headers
    tags = {"surrogate-key", "x-cache-tags", "xkey"}
    hidden = tags | {f"x-purgeline-{name}" for name in ("host", "url", "keys", "xkey")}
    assert (at_edge["x-other"], at_edge["cache-groups"]) == ("stays", '"f"')
    assert not hidden & at_edge.keys()
    assert hidden & at_parent.keys() == tags
    assert (at_parent["xkey"], at_parent["cache-groups"]) == ("d e", '"f"')


# --- the origin ---


def test_the_origin_answers_304_to_a_matching_etag(origin: Origin, path: str) -> None:
    """And pipelined requests in order, a delayed one first."""
    origin.set(HOST, path, b"body", headers={"ETag": '"1"'}, delay_s=0.05)
    with Wire(origin.port) as wire:
        wire.socket.sendall(request("GET", path) + request("GET", "/next"))
        assert [wire.read().body for _ in range(2)] == [b"body", f"v1 {HOST}/next".encode()]
        wire.send("GET", path, If_None_Match='"1"')
        answer = wire.read(has_body=False)
        assert (answer.status, answer.reason) == (304, "Not Modified")


def test_the_origin_skips_bodies_and_closes_when_asked(origin: Origin, path: str) -> None:
    """A POST's body is not read as a request."""
    with Wire(origin.port) as wire:
        wire.socket.sendall(request("POST", path, Content_Length="5") + b"GET /" + request("HEAD", path))
        assert wire.read().body == f"v1 {HOST}{path}".encode()
        assert wire.read(has_body=False).headers["content-length"] == str(len(HOST + path) + 3)
        wire.send("GET", path, Connection="close")
        assert wire.read().headers["connection"] == "close"
        assert wire.is_ended()
    assert origin.methods == {"POST": 1, "HEAD": 1, "GET": 1}


def test_the_origin_restarts_on_its_port() -> None:
    """Open connections end with it."""
    with Origin(version="v7") as origin:
        port = origin.port
        with Wire(port) as wire:
            wire.send("GET", "/a")
            assert wire.read().body == f"v7 {HOST}/a".encode()
            origin.stop()
            with pytest.raises(ConnectionError):
                wire.exchange("GET", "/a")
        origin.start()
        assert origin.port == port
        with Wire(port) as wire:
            wire.send("GET", "/a")
            assert wire.read().status == 200
