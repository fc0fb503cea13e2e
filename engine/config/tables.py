"""The tables of ``engine.toml``: every key, its type, its default and its unit.

The unit is the end of a key's name: ``_s`` seconds, ``_bytes``, ``_count``. The engine's parts are handed the
few values they need, so a table is seldom passed on whole.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.config.doors import AnyDoor, Door, DoorConfig
from engine.config.table import Table

Driver = Literal["varnish", "ats", "nginx", "squid", "engine"]
LogFormat = Literal["struct", "dict", "text"]
OnIncapable = Literal["refuse", "skip"]
Evidence = Literal["strict", "any"]
Verify = Literal["off", "sample", "all"]
AlertFormat = Literal["purgeline", "alertmanager", "slack"]
Scope = Literal["submit", "read", "admin"]


class EngineConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[engine]``: limits and places of one engine. Every key is optional."""

    listen: str = "127.0.0.1:9181"  #: HOST:PORT of the HTTP interface; beyond loopback it needs tokens
    name: str = ""  #: among the engines of one Redis; empty: host name and port
    data_dir: str = "var"  #: folder of the store's files
    region_count: int = 64  #: shards of the task map
    saver_count: int = 1  #: threads that save, a file each; stays what it is for a data_dir in use
    saver_backlog_count: int = 20_000  #: records one saver may hold
    saver_push_timeout_s: float = 1.0  #: a task may wait so long for room in a saver; then 503
    pipeline_depth: int = 64  #: requests in flight on one node connection
    connections_per_node: int = 4  #: to each cache
    due_s: float = 60  #: of tasks that do not say: what is undelivered by then makes them partial
    on_incapable: OnIncapable = "refuse"  #: when some nodes cannot do what a task asks
    rebound_s: float = 0  #: > 0: every purge by URL is sent once more after so many seconds
    drain_timeout_s: float = 30  #: from SIGTERM to the exit, at the most
    log_format: LogFormat = "struct"  #: of log lines; SIGUSR1 swaps it at run time
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"  #: lines below it are left out
    log_subtasks: bool = False  #: one line per answer of a cache
    log_audit: bool = True  #: one line per task accepted, refused, cancelled, settled, and per admin action
    live_subtasks_max: int = 1_000_000  #: accepted, not yet settled; then 503
    retention_days: float = 3  #: settled tasks can be asked for
    history_days: float = 3  #: 0: there is no history
    history_max_bytes: int = 10 * 1024**3  #: of all files of the history; then the oldest goes
    gone_after_s: float = 3600  #: what waits for a node that is not configured any more fails after so long
    delay_ttl_s: float = 7 * 86400  #: what waited longer for its node fails, unsent
    delay_rows_max: int = 10_000_000  #: of one node; then tasks for it alone are answered 503
    listen_backlog: int = 4096  #: connections that the kernel keeps before they are accepted
    connections_max: int = 10_000  #: of clients at a time
    body_max_bytes: int = 8 * 1024 * 1024  #: of a request; a longer one is answered 413
    header_timeout_s: float = 10  #: for the head of a request
    body_timeout_s: float = 30  #: for the body of a request
    idle_timeout_s: float = 75  #: a connection without a request is closed after so long
    trace_url: str = ""  #: of an OTLP receiver that spans go to; empty: there are none
    trusted_proxies: list[str] = []  #: addresses and networks whose ``X-Forwarded-For`` says who a client is
    connect_timeout_s: float = 2  #: to a node
    request_timeout_s: float = 5  #: for a node's answer to a purge
    poison_after_s: float = 3600  #: a subtask that went wrong for so long beside acked ones fails for good
    attempts_max: int | None = None  #: deprecated: ignored, see ``poison_after_s``
    prefetch_concurrency: int = 8  #: per node
    prefetch_timeout_s: float = (
        300  #: for an object; one without an answer holds up its purges for twice that
    )
    prefetch_max_bytes: int = 16 * 1024**3  #: of one object


class StoreConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[store]``: where tasks are saved. All but ``url`` is for Redis."""

    url: str = "sqlite:"  #: files under data_dir, or redis://, rediss://, redis+sentinel://, redis+cluster://
    prefix: str = "purgeline"  #: of every key
    region_count: int = 16  #: shards, each with a stream of its own; all engines need the same
    timeout_s: float = 5  #: of connecting to Redis and of its answers
    connections_max: int = 16  #: to each server
    wait_replicas: int | Literal["all"] = 0  #: replicas that must have a task before it is answered 202
    takeover_s: float = 5  #: an engine not heard of for so long is dead; others take its work over


class TokenConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[auth.tokens]]``: one client. ``sha256`` is the hex digest of its bearer token."""

    name: str  #: 1-64 of A-Z a-z 0-9 . _ -, a letter or digit first
    sha256: str  #: hex digest of the token
    scopes: list[Scope] = msgspec.field(default_factory=lambda: ["submit", "read"])  #: what it may do
    sites: list[str] = []  #: host rules; empty: every site
    rate_per_s: float = 0  #: tasks; 0: no limit
    burst_count: int = 0  #: 0: one second of the rate


class AuthConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[auth]``."""

    tokens: list[TokenConfig] = []


class SiteConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[site]]``: a host that may be purged; ``*.example.com`` takes every name below it."""

    host: str  #: a name, or ``*.example.com``: every name below it, not itself; ``*``: every host
    #: What visitors ask with: each is looked at; "": without the header.
    accept_encoding: list[str] = msgspec.field(default_factory=lambda: [""])
    confirm_over: int = 0  #: a larger task, in subtasks, takes ``confirm``, as a wide purge does; 0: none


class LayerConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[layer]]``: the order of the file is the order of work."""

    name: str  #: by which nodes say where they are


class NodeConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[node]]``: one cache; or another engine, of a region."""

    name: str  #: stands in the marks of its answers, in tasks and in metrics
    driver: Driver  #: which server it is
    url: str  #: of one cache: an address, or a name with one address of each family
    layer: str = "edge"  #: name of its ``[[layer]]``
    groups: list[str] = []  #: names beside layers, by which tasks may name their nodes
    parents: list[str] | None = None  #: None: every node of the layer before; `load` puts their names in
    purge_method: str = "PURGE"  #: of a purge by URL
    purge_path: str = ""  #: before the path of a purge; nginx: its purge location, ``/purge`` when empty
    key_mode: Literal["xkey", "ban", "none"] = "xkey"  #: varnish: how surrogate keys are dropped
    wildcard: bool = False  #: nginx: the purge module takes ``*`` at the end
    rules_file: str = (
        ""  #: ats: that the regex_revalidate plug-in reads; the engine writes it, on that machine
    )
    rules_state_file: str = ""  #: ats: in which that plug-in says what it has read (``--state-file``)
    rules_url: str = (
        ""  #: ats: how URLs begin behind remap.config, ``{host}`` in it; empty: rules take any host
    )
    rules_result: Literal["stale", "miss"] = "stale"  #: ats: what a rule makes of objects
    rules_keep_s: float = 30 * 86400  #: ats: as long as the cache may keep an object that nobody asks for
    generation_header: str = ""  #: ats: field by which the remap_purge plug-in knows a purge of all of a host
    generation_secret: str = ""  #: ats: its value
    token: str = ""  #: engine: bearer token that it takes, with the scopes submit and read; or ``token_file``
    token_file: str = ""  #: engine: file with that token
    public_keys: list[str] = []  #: engine: its keys, ``x`` of each as its ``GET /v1/engine/keys`` shows them
    ca_file: str = ""  #: https: own CA, PEM
    tls_verify: bool | None = None  #: https: certificate and name are checked; None: they are
    verify: bool | None = None  #: deprecated: the name of ``tls_verify`` in versions before
    headers: dict[str, str] = {}  #: sent with every request, such as a shared secret
    evidence: Evidence = "strict"  #: whether an answer must show that the cache itself gave it
    prefetch_statuses: list[
        int
    ] = []  #: beside 2xx: what the cache keeps of an origin, so that a prefetch counts
    visit_url: str = ""  #: where visitors come in; empty: ``url``
    server_name: str = ""  #: https: the name to ask for and to check; empty: the host of the URL
    requests_per_s: float = (
        0  #: of visitors, as your metrics have it; previews tell refills by it; 0: not known
    )
    hit_ratio: float = 0  #: of these requests, up to 1; 0: not known

    @property
    def checks_tls(self) -> bool:
        """Whether its certificate and its name are checked."""
        return self.tls_verify is not False and self.verify is not False


class ProofConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[proof]``: what shows that purges work."""

    verify: Verify = "off"  #: default of a task's ``verify``
    sample_count: int = 20  #: targets that ``sample`` looks at, on each node
    rate_per_s: float = 50  #: visits of one node
    body_max_bytes: int = 16 * 1024 * 1024  #: of an answer to a visit; of a longer one the head alone counts
    objective_s: float = 0  #: > 0: purges are to be fresh for visitors within so long
    objective_share: float = 0.99  #: so many of them
    evidence_interval_s: float = 300  #: a node is asked again whether its purges are its own


class OriginConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[origin]]``: where the truth about a host is."""

    host: str  #: a host rule, as of ``[[site]]``; the most exact one counts
    url: str  #: where it is asked, HOST or HOST:PORT with http or https
    prefetch_per_s: float = 0  #: what the engine fetches through to it, on all nodes; 0: no limit
    ca_file: str = ""  #: https: own CA, PEM
    tls_verify: bool = True  #: https: certificate and name are checked
    server_name: str = ""  #: https: the name to ask for and to check; empty: the host of the URL


class CanaryConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[canary]``: objects of the engine's own, with which every node is tried again and again."""

    interval_s: float = 0  #: > 0 turns canaries on
    path: str = "/.well-known/purgeline/"  #: routed to the engine by every cache that fetches from origins
    host: str = "canary.purgeline"  #: of the objects; one that no site has
    listen: str = ""  #: where the canary origin listens; empty: on the engine's own port


class CallbackConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[callback]]``: a host that tasks may name in ``callback``."""

    host: str  #: a host rule, as of ``[[site]]``
    secret: str = ""  #: signs the body: HMAC-SHA256


class AlertConfig(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[alert]``: who is told, beside the log."""

    url: str = ""  #: takes a POST for each alert
    format: AlertFormat = "purgeline"  #: of its body
    secret: str = ""  #: signs the body, as of a callback
    smtp_url: str = ""  #: mail server: smtp://, smtps:// or smtp+starttls://[USER:PASSWORD@]HOST[:PORT]
    mail_from: str = ""  #: sender's address
    mail_to: list[str] = []  #: receivers' addresses
    repeat_s: float = 300  #: the same alert again at the earliest after this


class Config(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    engine: EngineConfig = EngineConfig()
    store: StoreConfig = StoreConfig()
    auth: AuthConfig = AuthConfig()
    site: list[SiteConfig] = []
    layer: list[LayerConfig] = []
    node: list[NodeConfig] = []
    callback: list[CallbackConfig] = []
    alert: AlertConfig = AlertConfig()
    proof: ProofConfig = ProofConfig()
    origin: list[OriginConfig] = []
    canary: CanaryConfig = CanaryConfig()
    door: list[DoorConfig] = []

    def listen_address(self) -> tuple[str, int]:
        """Return host and port of ``listen``; an IPv6 host comes without its brackets."""
        return address_of(self.engine.listen)

    def listening_doors(self) -> list[Door]:
        """Return the doors that clients connect to."""
        return [door for door in self.door if isinstance(door, Door)]


def address_of(listen: str) -> tuple[str, int]:
    """Return host and port of a ``listen``; an IPv6 host comes without its brackets."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


TABLES: dict[str, type[Table]] = {
    "engine": EngineConfig,
    "store": StoreConfig,
    "auth": AuthConfig,
    "site": SiteConfig,
    "layer": LayerConfig,
    "node": NodeConfig,
    "callback": CallbackConfig,
    "alert": AlertConfig,
    "proof": ProofConfig,
    "origin": OriginConfig,
    "canary": CanaryConfig,
    "door": AnyDoor,
    "auth.tokens": TokenConfig,
}
