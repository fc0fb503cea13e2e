"""The salt step of a deploy: the release's own states, applied to a batch before it is unpacked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from release.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from release.remote import Outcome


def step() -> Callable[[Sequence[str]], dict[str, Outcome]]:
    """Return what applies the states of a release to some hosts.

    Raises:
        SettingsError: this version has no states.
    """
    raise SettingsError("this version applies no states yet; leave them out with --no-salt")
