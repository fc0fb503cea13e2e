"""``[[door]]``: speaks somebody else's protocol, whose clients need only its address. One table a kind."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from engine.config.table import Table

Transport = Literal["tcp", "udp"]


class AnyDoor(Table, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What the doors of all kinds have."""

    token: str = ""  #: name of the ``[[auth.tokens]]`` that its clients act as; needed where there are any

    @property
    def kind(self) -> str:
        """The protocol, by the name that its table has."""
        return str(self.__struct_config__.tag)


class Door(AnyDoor, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the doors have that clients connect to."""

    transport: ClassVar[Transport] = "tcp"  #: of the socket that its clients reach

    listen: str  #: HOST:PORT, of its own; what it needs beyond loopback: configuration.md

    @property
    def socket_name(self) -> str:
        """Its socket, among those that a supervisor holds: an address may have one of each transport."""
        return self.listen if self.transport == "tcp" else f"{self.transport}/{self.listen}"


class PurgeDoorConfig(Door, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="purge"):
    """``kind = "purge"``: what content management systems and frameworks send to caches."""

    allow: list[str] = []  #: addresses and networks that may purge; empty: every address
    secret_header: str = ""  #: field in which clients send a secret
    secret_sha256: str = ""  #: of that secret, hex
    default_hosts: list[str] = []  #: where a request names no site
    names: list[str] = []  #: further names that clients have for the door, beside its address
    wait: Literal["saved", "acked"] = "saved"  #: when clients are answered
    wait_s: float = 10  #: "acked": at the latest


class HtcpDoorConfig(Door, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="htcp"):
    """``kind = "htcp"``: HTCP (RFC 2756) over UDP, as MediaWiki and Squid send it."""

    transport: ClassVar[Transport] = "udp"

    allow: list[str] = []  #: addresses and networks that may purge; empty: every address
    key_file: str = ""  #: secrets that clients sign with; empty: nobody has to sign
    clock_skew_s: float = 30  #: how far the clocks of those that sign may be off
    groups: list[str] = []  #: multicast groups whose datagrams are taken, too
    receive_buffer_bytes: int = 32 * 1024 * 1024  #: that the kernel keeps of datagrams nobody has read yet
    wait: Literal["saved", "acked"] = "saved"  #: when clients that ask for an answer are answered
    wait_s: float = 10  #: "acked": at the latest


class RedisDoorConfig(AnyDoor, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="redis"):
    """``kind = "redis"``: streams and channels of a Redis that the engine reads."""

    url: str  #: as ``store.url`` has it; it need not be the store's
    streams: list[str] = []  #: keys of streams; each entry is a task
    channels: list[str] = []  #: names of channels; each message is a purge in varnish-towncrier's form
    group: str = "purgeline"  #: consumer group; engines with the same one share the entries
    start: Literal["$", "0"] = "$"  #: where a new group begins: with what comes, or with what is there
    field: str = "task"  #: of an entry, that has the task
    max_age_s: float = 0  #: what is older is dropped; 0: nothing is
    takeover_s: float = 15  #: entries that nobody has worked on for so long go to another worker
    default_hosts: list[str] = []  #: where a message names no site
    poison: str = "purgeline:poison"  #: stream in which refused entries are set aside
    poison_max: int = 1000  #: entries in it; then the oldest go
    timeout_s: float = 5  #: of connecting and of answers


class CdniDoorConfig(Door, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="cdni"):
    """``kind = "cdni"``: triggers of other CDNs (RFC 8007). Its clients have a token or certificate each."""

    cdn_id: str = ""  #: the CDN Provider ID of this CDN, such as "AS64496:0"; needed
    url: str = ""  #: how its clients reach it, such as "https://dcdn.example.com"; empty: as they say
    allow: list[str] = []  #: addresses and networks that are answered; empty: every address
    default_hosts: list[str] = []  #: of ``content.ccid``, for a token that may purge any host
    stale_resource_s: int = 86400  #: settled triggers are kept so long
    cert_file: str = ""  #: of the door, PEM; empty: it speaks plain HTTP
    key_file: str = ""  #: of that certificate; empty: it is in the same file
    client_ca_file: str = ""  #: PEM; clients need a certificate of it
    certificates: dict[str, str] = {}  #: name in a client's certificate → name of its ``[[auth.tokens]]``


DoorConfig = PurgeDoorConfig | HtcpDoorConfig | RedisDoorConfig | CdniDoorConfig

DOORS: Final[dict[str, type[AnyDoor]]] = {
    "purge": PurgeDoorConfig,
    "htcp": HtcpDoorConfig,
    "redis": RedisDoorConfig,
    "cdni": CdniDoorConfig,
}
"""The tables by their ``kind``."""
