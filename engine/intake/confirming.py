"""Which tasks a client has to confirm: those that take more of a site than its ``confirm_over``. Pure.

How many objects a purge by prefix, regex, key or host takes is known to nobody before it is done, so on such
a site each of them has to be confirmed.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from engine.errors import RequestError
from engine.intake.host_rules import without_port
from engine.nodes.origin_guard import rule_for
from engine.tasks.words import Kind, host_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.config.tables import SiteConfig
    from engine.tasks.task import Task


class Confirming:
    """The sites with a ``confirm_over``.

    Args:
        sites: of the configuration, all of them: a host counts for the one that names it most exactly.

    Attributes:
        asks: whether any task has to be confirmed.
    """

    def __init__(self, sites: Sequence[SiteConfig]) -> None:
        self._over = {site.host: site.confirm_over for site in sites}
        self._rules = list(self._over)
        self._least = min((over for over in self._over.values() if over), default=0)
        self.asks = self._least > 0

    def check(self, task: Task) -> None:
        """Refuse a task that has to be confirmed, and was not.

        Raises:
            RequestError: 422; the text says why, and what would be right.
        """
        if reason := self.reason(task):
            detail = f'confirm: {reason}; send "confirm": true to do it, or ask with ?dry_run=1 what it does'
            raise RequestError(422, detail, field="confirm")

    def reason(self, task: Task) -> str:
        """Return why a task has to be confirmed, in words; empty: it has not."""
        if not self._least or (task.kind == Kind.URL and task.total <= self._least):
            return ""
        each = task.total // max(1, len(task.targets))
        counts = Counter(site for target in task.targets for site in self._sites(host_of(target)))
        for site, count in counts.items():
            if task.kind != Kind.URL:
                return f"nobody knows how many objects of site {site!r} a {task.action} by {task.kind} takes"
            if count * each > self._over[site]:
                what = f"{task.action} of {count * each} subtasks on site {site!r}"
                return f"this is a {what}, more than its confirm_over of {self._over[site]}"
        return ""

    def _sites(self, host: str) -> Iterable[str]:
        """Yield the sites with a ``confirm_over`` that a host is of, or what a host pattern stands for."""
        name = without_port(host)
        sites = {rule_for(name, self._rules)}
        if name.startswith("*."):
            sites.update(site for site in self._rules if site.endswith(name[1:]))
        yield from (site for site in sites if site is not None and self._over[site])
