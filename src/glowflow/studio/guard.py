"""What every request has to pass: whose page it comes from, the token, how long it is."""

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from .limits import Limits

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))
UPLOADS = frozenset(("/api/pictures", "/api/score", "/api/score/map"))
"""What takes a file."""
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        b"media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """Refuses requests before the application sees them.

    Without a token the page is for this machine alone: `Host` has to be a loopback name, so that
    no other site's name can be pointed here. A request that a page of another site makes says so
    in `Origin` or `Sec-Fetch-Site`, and is refused. With a token everything under `/api/` needs it
    as `Authorization: Bearer …`.

    Args:
        application: what is guarded.
        limits: how long a request may be.
        token: what everybody has to know; None for none.
    """

    def __init__(self, application: Application, limits: Limits, token: str | None) -> None:
        self.application, self.limits, self.token = application, limits, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self.application(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets here
            return
        send = _with_headers(send)
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope["path"], headers)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        most = self.limits.upload_bytes if scope["path"] in UPLOADS else self.limits.body_bytes
        body, whole = await _read(receive, most, headers.get(b"content-length", ""))
        if not whole:
            await _answer(send, 413, f"That is more than {most / 2**20:g} MiB: send less.")
            return
        await self.application(scope, _given(body, receive), send)

    def _refusal(self, path: str, headers: MutableMapping[bytes, str]) -> tuple[int, str] | None:
        host = headers.get(b"host", "")
        name = _host_name(host)
        if name is None or (self.token is None and name not in LOOPBACK):
            return 403, "The studio answers to 127.0.0.1 and localhost only: open it by that name."
        origin = headers.get(b"origin")
        site = headers.get(b"sec-fetch-site", "none")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        navigation = headers.get(b"sec-fetch-mode") == "navigate" and not path.startswith("/api/")
        if foreign or (site not in ("none", "same-origin") and not navigation):
            return 403, "The request comes from the page of another site: open the studio itself."
        if self.token is not None and path.startswith("/api/"):
            given = headers.get(b"authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                return 401, "The token is missing or wrong: open the address that glow studio said."
        return None


def _host_name(host: str) -> str | None:
    """Of a header `Host`, without the port; None if it is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


async def _read(receive: Receive, most: int, declared: str) -> tuple[bytes, bool]:
    """The body, and whether that was all of it."""
    if declared.isdigit() and int(declared) > most:
        return b"", False
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"", True  # whoever asked has gone
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            return b"", False
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts), True


def _given(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already."""
    given = False

    async def call() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return call


def _with_headers(send: Send) -> Send:
    async def call(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *HEADERS]
        await send(message)

    return call


async def _answer(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
