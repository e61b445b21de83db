"""The web application of the review page, and its access control.

Only this machine can reach the server, but every program and every web page open on it can try. So the address holds
a random token; the Host header must be this machine's (a page elsewhere cannot point its own name here); nothing but
our own scripts may run in the page, and no other page may frame it or read from it. A request names a case, never a
file: the server looks it up among those it found itself.
"""

import errno
import json
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from efface.errors import EffaceError, InputError
from efface.review.faces import Faces
from efface.review.session import Session, label_colours
from efface.study.ratings import check_reviewer

OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)
PAGE = Path(__file__).with_name("page")
HOSTS = ("127.0.0.1", "localhost")
LARGEST_BODY = 20_000
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
Handler = Callable[[Request], Any]


def make_app(session: Session, token: str) -> ASGIApp:
    """Make the application that serves one study under ``/token/``."""
    faces = Faces()

    def study(request: Request) -> Response:
        session.refresh()
        return _json(session.study(request.query_params.get("reviewer", "")))

    def details(request: Request) -> Response:
        return _json(session.details(request.path_params["case"], request.query_params.get("reviewer", "")))

    def volume(request: Request) -> Response:
        path = session.case(request.path_params["case"]).volumes().get(request.path_params["kind"])
        return FileResponse(path, media_type="application/octet-stream") if path else _missing(request)

    def face(request: Request) -> Response:
        names = request.path_params
        return Response(faces.png(session.case(names["case"]), names["when"], names["view"]), media_type="image/png")

    def agreement(_: Request) -> Response:
        return _json(asdict(session.agreement()))

    def export(_: Request) -> Response:
        return _json({"said": session.export()})

    def labels(_: Request) -> Response:
        return _json(label_colours())

    async def vote(request: Request) -> Response:
        asked = await _body(request)
        words = {name: _text(asked, name) for name in ("case", "reviewer", "verdict", "note")}
        check_reviewer(words["reviewer"])
        saved = await run_in_threadpool(
            session.vote, words["case"], words["reviewer"], words["verdict"], words["note"].strip()
        )
        return _json(saved, 201)

    routes = [
        Route("/api/study", study),
        Route("/api/agreement", agreement),
        Route("/api/labels", labels),
        Route("/api/export", export, methods=["POST"]),
        Route("/api/vote", vote, methods=["POST"]),
        Route("/api/case/{case}", details),
        Route("/volume/{case}/{kind}/{name}", volume),
        Route("/face/{case}/{when}/{view}", face),
        Route("/", lambda _: FileResponse(PAGE / "index.html")),
        Mount("/", StaticFiles(directory=PAGE)),
    ]
    inner = Starlette(routes=routes, exception_handlers={EffaceError: _refused})
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False)
    return Starlette(routes=[Mount("/", _Guard(inner, token))], middleware=[hosts])


class _Guard:
    """Checks token and origin of each request, and adds the security headers to each answer."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        _, _, rest = scope["path"].partition("/")
        token, slash, rest = rest.partition("/")
        if not slash or not secrets.compare_digest(token.encode(), self._token.encode()):
            await PlainTextResponse("Not this address: use the one that efface review printed.\n", 404)(
                scope, receive, _with_headers(send)
            )
            return
        if scope["method"] not in ("GET", "HEAD") and not _same_origin(scope):
            await PlainTextResponse("Not from another page.\n", 403)(scope, receive, _with_headers(send))
            return
        inner = {**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode(), "root_path": ""}
        await self._app(inner, receive, _with_headers(send))


def _same_origin(scope: Scope) -> bool:
    """Whether the request was made by our own page; programs that are no browser send no origin."""
    headers = {name: value for name, value in scope["headers"] if name in (b"origin", b"host")}
    origin = headers.get(b"origin")
    return origin is None or origin == b"http://" + headers.get(b"host", b"")


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message["headers"] = [*(h for h in message.get("headers", ()) if h[0].decode() not in HEADERS), *ours]
        await send(message)

    return sent


async def _body(request: Request) -> Mapping[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        msg = "a vote must be sent as application/json"
        raise InputError(msg)
    received = b""
    async for chunk in request.stream():
        received += chunk
        if len(received) > LARGEST_BODY:
            msg = f"a vote can have {LARGEST_BODY} bytes: shorten the note"
            raise InputError(msg)
    try:
        content = json.loads(received)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        msg = "a vote must be a JSON object"
        raise InputError(msg)
    return content


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name, "")
    if not isinstance(value, str):
        msg = f"{name} must be text; received {value!r}"
        raise InputError(msg)
    return value


def _json(content: Any, status: int = 200) -> Response:
    """JSON has no NaN: undefined is null."""
    return JSONResponse(_without_nan(content), status)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _without_nan(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return value


async def _refused(_: Request, error: Exception) -> Response:
    """An expected error is one line, as on the command line."""
    return JSONResponse({"error": " ".join(str(error).split())}, status_of(error))


def status_of(error: Exception) -> int:
    """HTTP status of an expected error: what the browser sent, a full disk, or anything else that went wrong here."""
    if isinstance(error, InputError):
        return 400
    full = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return 507 if isinstance(full, OSError) and full.errno in OUT_OF_SPACE else 500


def _missing(_: Request) -> Response:
    return JSONResponse({"error": "there is no such image"}, 404)
