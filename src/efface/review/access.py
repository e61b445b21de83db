"""Who is let in to the review page: a ticket works once and is exchanged for a cookie, which stays secret.

An address does not stay secret: it is on the command line of the browser, which every user of the machine can list, in
the browser's history, and on the screen. So the address that is printed, and opened, holds a *ticket* that works once.
It gives the browser a cookie that no script can read (HttpOnly) and that goes with no request of another page
(SameSite=Strict), and leads it on to the page. The page has a random *place* in its path, and the cookie belongs to
that place alone: cookies do not tell ports apart, and another server on this machine must not be sent it. After each
use there is a new ticket, for another browser.

Between the start of the browser and its first request another user could take the ticket from the list of processes.
Linux says whose a local connection is; there, a ticket from another user's connection is refused. (Not where the server
is root's: in a container on the host's network, root serves the user.)
"""

import contextlib
import os
import secrets
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",  # no face is left behind in the browser's cache
}
SECRET_BYTES = 24
DOOR = "open"
"""First part of the path of a ticket."""
CONNECTIONS = Path("/proc/net/tcp")
CLOSED = (
    "There is nothing here. An address works once, in one browser: use the one that efface review printed last. "
    "If somebody else has used it, end efface review (Ctrl-C).\n"
)
WELCOME = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>efface review</title>
<link rel="icon" href="data:,"><meta http-equiv="refresh" content="0; url={page}"></head>
<body><a href="{page}">efface review</a></body></html>
"""
"""Not an HTTP redirect: where the address was a link in another page, a browser sends no strict cookie after one."""


class Access:
    """The ticket that is valid now, and the cookie that it is exchanged for.

    Parameters
    ----------
    announce
        Is given the path of every new ticket, such as ``/open/x7...``.
    """

    def __init__(self, announce: Callable[[str], None] = lambda path: None) -> None:
        self._announce = announce
        self._cookie = f"efface-review-{secrets.token_hex(4)}"  # another for each server: their ports share cookies
        self._place, self._key, self._ticket = (secrets.token_urlsafe(SECRET_BYTES) for _ in range(3))

    @property
    def path(self) -> str:
        """Path with the ticket that is valid now."""
        return f"/{DOOR}/{self._ticket}"

    def exchange(self, ticket: str) -> Response | None:
        """Answer a request with a ticket, which is worth nothing from now on; None where it is not valid."""
        if not _same(ticket, self._ticket):
            return None
        self._ticket = secrets.token_urlsafe(SECRET_BYTES)
        page = f"/{self._place}/"
        answer = HTMLResponse(WELCOME.format(page=page))
        answer.set_cookie(self._cookie, self._key, path=page, httponly=True, samesite="strict")
        with contextlib.suppress(OSError):  # whoever read our output has left
            self._announce(self.path)
        return answer

    def inside(self, scope: Scope) -> str | None:
        """Path within the page, of a request for the page's place with its cookie; None for every other request."""
        place, slash, rest = scope["path"].removeprefix("/").partition("/")
        cookie = Request(scope).cookies.get(self._cookie, "")
        return f"/{rest}" if slash and _same(place, self._place) and _same(cookie, self._key) else None


class Guard:
    """Lets in who has the ticket or the cookie, and adds the security headers to each answer.

    Parameters
    ----------
    app
        The page, at ``/``.
    access
        Ticket and cookie.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        answer: ASGIApp
        door, slash, ticket = scope["path"].removeprefix("/").partition("/")
        if door == DOOR and slash:
            answer = self._at_the_door(scope, ticket)
        elif (path := self._access.inside(scope)) is None:
            answer = PlainTextResponse(CLOSED, 404)
        elif _from_elsewhere(scope):
            answer = PlainTextResponse("Not from another page.\n", 403)
        else:
            scope = {**scope, "path": path, "raw_path": path.encode(), "root_path": ""}
            answer = self._app
        await answer(scope, receive, _with_headers(send))

    def _at_the_door(self, scope: Scope, ticket: str) -> Response:
        headers = Request(scope).headers
        if "prefetch" in headers.get("sec-purpose", headers.get("purpose", "")):
            return PlainTextResponse("Not ahead of time.\n", 503)  # the browser asks again when the page is opened
        if scope["method"] != "GET" or _of_another_user(scope):
            return PlainTextResponse(CLOSED, 404)
        return self._access.exchange(ticket) or PlainTextResponse(CLOSED, 404)


def _of_another_user(scope: Scope) -> bool:
    owner = owner_of(scope.get("client"), scope.get("server"))
    return owner is not None and os.getuid() != 0 and owner not in (0, os.getuid())


def owner_of(client: tuple[str, int] | None, server: tuple[str, int] | None) -> int | None:
    """User id of the process at the other end of a local connection; None where the system does not say.

    Parameters
    ----------
    client, server
        IPv4 addresses and ports of both ends.
    """
    if client is None or server is None:
        return None
    try:
        theirs, ours = (_in_table(*end) for end in (client, server))
        rows = [line.split() for line in CONNECTIONS.read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError):  # another system
        return None
    return next((int(row[7]) for row in rows if row[1:3] == [theirs, ours]), None)


def _in_table(address: str, port: int) -> str:
    """An address as the kernel's table of connections shows it."""
    return f"{struct.unpack('=I', socket.inet_aton(address))[0]:08X}:{port:04X}"


def _same(received: str, expected: str) -> bool:
    """Compare in a time that does not tell how much was right."""
    return secrets.compare_digest(received.encode("utf-8", "surrogatepass"), expected.encode())


def _from_elsewhere(scope: Scope) -> bool:
    """Whether another page made the request; programs that are no browser say nothing about it."""
    headers = Request(scope).headers
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site not in (None, "same-origin", "none"):
        return True
    return scope["method"] not in ("GET", "HEAD") and origin not in (None, f"http://{headers.get('host', '')}")


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message["headers"] = [*(h for h in message.get("headers", ()) if h[0].decode() not in HEADERS), *ours]
        await send(message)

    return sent
