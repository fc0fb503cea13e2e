"""Who asks at a CDNI door: the client of a bearer token, or of a certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.api.callers import Callers
from engine.doors.allow import AllowList
from engine.errors import RequestError
from engine.intake.client import Client

if TYPE_CHECKING:
    from aiohttp import web

    from engine.config.doors import CdniDoorConfig
    from engine.config.tables import Scope
    from engine.intake.auth import Auth, Token
    from engine.intake.client import Addresses


class CdniCallers(Callers):
    """Tells the client of a request.

    A certificate that ``certificates`` has a token for is that token's; where ``client_ca_file`` is set there
    is always one, and it has been checked. Otherwise the bearer token tells, as on the engine's own port.

    Args:
        config: of the door.
        auth: knows the tokens.
        addresses: tells where a request came from.
    """

    def __init__(self, config: CdniDoorConfig, auth: Auth, addresses: Addresses) -> None:
        super().__init__(auth, addresses, door=config.kind)
        self._certificates = config.certificates
        self._allow = AllowList(config.allow)

    def client_with(self, request: web.Request, scope: Scope) -> Client:
        """Return the client of a request, which may do what *scope* names.

        Raises:
            RequestError: 401, 403.
        """
        by = self.by(request)
        if not self._allow.has(by.address):
            raise RequestError(403, f"this door does not answer {by.address or 'there'} (allow)")
        return Client(self._token(request, scope), by)

    def _token(self, request: web.Request, scope: Scope) -> Token:
        name = self._of_certificate(request)
        if name:
            return self._auth.with_scope(self._auth.named(name), scope)
        if self._certificates and "Authorization" not in request.headers:
            shown = ", ".join(_names(_certificate(request))) or "none"
            raise RequestError(403, f"no token is set for the name of this certificate ({shown})")
        return self._auth.check(request.headers.get("Authorization"), scope)

    def _name(self, request: web.BaseRequest) -> str:
        return self._of_certificate(request) or super()._name(request)

    def _of_certificate(self, request: web.BaseRequest) -> str:
        """Return the name of the token that a client's certificate stands for; empty: of none."""
        if not self._certificates:
            return ""
        names = _names(_certificate(request))
        return next((self._certificates[name] for name in names if name in self._certificates), "")


def _certificate(request: web.BaseRequest) -> dict[str, Any]:
    transport = request.transport
    return (transport.get_extra_info("peercert") if transport is not None else None) or {}


def _names(certificate: dict[str, Any]) -> list[str]:
    """Return the names of a certificate's holder: its common name, then its DNS names."""
    common = [
        value
        for attributes in certificate.get("subject", ())
        for key, value in attributes
        if key == "commonName"
    ]
    return [*common, *(value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS")]
