"""How one alert gets to each of those that ``[alert]`` names, in their form."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeAlias

from engine.notify.formats import body_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.config.tables import AlertConfig
    from engine.notify.formats import Alert
    from engine.notify.post import Answer, Poster

Deliver: TypeAlias = "Callable[[Alert], Awaitable[Answer]]"
"""Delivers one alert; it does not raise for what the other side does."""

URL: Final = "url"  #: name of the webhook, Alertmanager or Slack


def deliveries(config: AlertConfig, poster: Poster) -> dict[str, Deliver]:
    """Return by name what delivers to whom: `URL`, ``mail``; nothing, when nobody is named.

    Args:
        config: checked; see `engine.config.alert_checks`.
        poster: started before the first alert.
    """
    found: dict[str, Deliver] = {}
    if config.url:

        async def post(alert: Alert) -> Answer:
            body = body_of(config.format, alert, time.time())
            return await poster.post(config.url, body, config.secret, {})

        found[URL] = post
    if config.mail_to:
        from engine.notify.mail import Mailer  # noqa: PLC0415 - most engines send none, and start without it

        found["mail"] = Mailer(config).send
    return found
