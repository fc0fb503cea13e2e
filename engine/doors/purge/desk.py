"""What a request to a purge door goes by: who may, whose sites, what is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.config.tables import address_of
from engine.doors.hosts import Hosts
from engine.doors.purge.access import Access
from engine.doors.purge.heads import HeadReader
from engine.doors.purge.wording import understand
from engine.intake.auth import ANONYMOUS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config.doors import PurgeDoorConfig
    from engine.doors.asked import Asked
    from engine.doors.purge.heads import Head
    from engine.doors.submitting import Submitting
    from engine.intake.admission import Admission
    from engine.intake.auth import Auth


class PurgeDesk:
    """What the connections of one purge door share.

    Args:
        config: of the door.
        sites: rules of what the token may purge; None: any host.
        auth: knows the token.
        submitting: takes what is asked for.

    Attributes:
        token: whose sites and rate hold.
        access: who may purge.
        submitting: as given.
        read: reads a head.
        wait_s: how long a client waits for the caches; 0: until its purge is saved.
    """

    def __init__(
        self, config: PurgeDoorConfig, sites: Sequence[str] | None, auth: Auth, submitting: Submitting
    ) -> None:
        host, port = address_of(config.listen)
        self.token = auth.named(config.token or ANONYMOUS)
        self.access = Access(config)
        self.submitting = submitting
        self.read = HeadReader().read
        self.wait_s = config.wait_s if config.wait == "acked" else 0.0
        self._hosts = Hosts(
            self.token.hosts.allows,
            sites,
            defaults=config.default_hosts,
            own=[host, *config.names],
            port=port,
        )

    @property
    def admission(self) -> Admission:
        """Takes the tasks."""
        return self.submitting.admission

    def understand(self, head: Head) -> Asked:
        """Return what a request asks for; see `wording.understand`."""
        return understand(head, self._hosts)
