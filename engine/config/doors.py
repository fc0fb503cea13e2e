"""``[[door]]``: speaks somebody else's protocol, whose clients need only its address. One table a kind."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from engine.config.table import Table

Transport = Literal["tcp"]


class Door(Table, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What the doors of all kinds have."""

    transport: ClassVar[Transport] = "tcp"  #: of the socket that its clients reach

    listen: str
    token: str = ""  #: name of the ``[[auth.tokens]]`` that its clients act as; needed where there are any

    @property
    def kind(self) -> str:
        """The protocol, by the name that its table has."""
        return str(self.__struct_config__.tag)


class PurgeDoorConfig(Door, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="purge"):
    """``kind = "purge"``: what content management systems and frameworks send to caches."""

    allow: list[str] = []  #: addresses and networks that may purge; empty: every address
    secret_header: str = ""  #: field in which clients send a secret
    secret_sha256: str = ""  #: of that secret, hex
    default_hosts: list[str] = []  #: where a request names no site
    names: list[str] = []  #: further names that clients have for the door, beside its address
    wait: Literal["saved", "acked"] = "saved"  #: when clients are answered
    wait_s: float = 10  #: "acked": at the latest


DoorConfig = PurgeDoorConfig  # of further kinds: a union

DOORS: Final[dict[str, type[Door]]] = {"purge": PurgeDoorConfig}
"""The tables by their ``kind``."""
