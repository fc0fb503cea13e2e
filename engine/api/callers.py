"""Who asks, of a request in aiohttp's lane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.api.route import TOKEN
from engine.intake.client import HTTP, Client
from engine.tasks.records import By
from engine.tasks.traceparent import read_traceparent

if TYPE_CHECKING:
    from aiohttp import web

    from engine.intake.auth import Auth
    from engine.intake.client import Addresses


class Callers:
    """Tells the client of a request.

    Args:
        auth: tells its token.
        addresses: tells where it came from.
        door: what it has come to, see `By.door`.
    """

    def __init__(self, auth: Auth, addresses: Addresses, door: str = HTTP) -> None:
        self._auth = auth
        self._addresses = addresses
        self._door = door

    def client(self, request: web.Request) -> Client:
        """Return the client of a request to a route with a scope, which its token has."""
        token = request[TOKEN]
        said = request.headers.getall("traceparent", ())
        traceparent = read_traceparent(said[0]) if len(said) == 1 else ""
        return Client(token, self._by(request, token.name), traceparent=traceparent)

    def by(self, request: web.BaseRequest) -> By:
        """Return who asks, whatever the token may do; of one without a token the address alone."""
        return self._by(request, self._name(request))

    def _name(self, request: web.BaseRequest) -> str:
        """Return the name of a request's token, whatever that may do; empty: it has none."""
        return self._auth.name_of(request.headers.get("Authorization"))

    def _by(self, request: web.BaseRequest, token: str) -> By:
        hops = ",".join(request.headers.getall("X-Forwarded-For", ()))
        return By(token, self._addresses.of(request.remote or "", hops), self._door)
