"""Requests that a local page answers: those of its own address, from its own page."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class SameOrigin:
    """ASGI middleware that refuses other hosts' names and other sites' pages with status 403.

    Without it, a web site that a user has open could send pictures to the page, or by a name that
    it resolves to this machine read what the page answers.

    Args:
        app: what answers.
        hosts: names and addresses, without ports, that the page is reached by; none: any.
    """

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Awaitable[None]], hosts: Sequence[str]
    ) -> None:
        self.app = app
        self.hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] in ("http", "websocket") and not self._own(scope):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            text = b"not this page's address, or another page's request"
            headers = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": text})
            return
        await self.app(scope, receive, send)

    def _own(self, scope: Scope) -> bool:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if self.hosts and urlsplit(f"//{host}").hostname not in self.hosts:
            return False
        return origin is None or urlsplit(origin).netloc == host
