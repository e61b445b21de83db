"""The web application of the review page.

Only this machine can reach the server, but every program and every web page open on it can try. `efface.review.access`
says who is let in; the Host header must be this machine's (a page elsewhere cannot point its own name here); nothing but
our own scripts may run in the page, and no other page may frame it or read from it. A request names a case, never a
file: the server looks it up among those it found itself.
"""

import errno
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from efface.errors import EffaceError, InputError, one_line
from efface.io.json_files import parse_json
from efface.review.access import Access, Guard
from efface.review.faces import Faces
from efface.review.session import Session, label_colours
from efface.study.ratings import check_reviewer

OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)
PAGE = Path(__file__).with_name("page")
HOSTS = ("127.0.0.1", "localhost")
LARGEST_BODY = 20_000
Handler = Callable[[Request], Any]


def make_app(session: Session, access: Access) -> ASGIApp:
    """Make the application that serves one study to who is let in."""
    faces = Faces()

    def study(request: Request) -> Response:
        session.refresh()
        return _json(session.study(_reviewer(request)))

    def details(request: Request) -> Response:
        return _json(session.details(request.path_params["case"], _reviewer(request)))

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
    return Starlette(routes=[Mount("/", Guard(inner, access))], middleware=[hosts])


async def _body(request: Request) -> Mapping[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        msg = "a vote must be sent as application/json"
        raise InputError(msg)
    received = b""
    try:
        async for chunk in request.stream():
            received += chunk
            if len(received) > LARGEST_BODY:
                msg = f"a vote can have {LARGEST_BODY} bytes: shorten the note"
                raise InputError(msg)
        content = parse_json(received, strict=True)
    except ClientDisconnect as error:
        msg = "the connection ended within a vote: send it again"
        raise InputError(msg) from error
    except UnicodeError as error:
        msg = "a vote must be text that UTF-8 can hold: remove what cannot be shown"
        raise InputError(msg) from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        msg = f"a vote must be a JSON object ({error})"
        raise InputError(msg) from error
    if not isinstance(content, dict):
        msg = f"a vote must be a JSON object; received a {type(content).__name__}"
        raise InputError(msg)
    return content


def _reviewer(request: Request) -> str:
    """Name in the query; empty where there is none."""
    name = request.query_params.get("reviewer", "")
    return check_reviewer(name) if name else ""


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name, "")
    if not isinstance(value, str):
        msg = f"{name} must be text; received {str(value)[:80]!r}"
        raise InputError(msg)
    return value


def _json(content: Any, status: int = 200) -> Response:
    """JSON has no NaN: undefined is null. UTF-8 has no half surrogate pairs: names of files and old notes may."""
    return JSONResponse(_as_json(content), status)


def _as_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_as_json(name): _as_json(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(v) for v in value]
    return value


async def _refused(_: Request, error: Exception) -> Response:
    """An expected error is one line, as on the command line."""
    return _json({"error": one_line(str(error))}, status_of(error))


def status_of(error: Exception) -> int:
    """HTTP status of an expected error: what the browser sent, a full disk, or anything else that went wrong here."""
    if isinstance(error, InputError):
        return 400
    full = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return 507 if isinstance(full, OSError) and full.errno in OUT_OF_SPACE else 500


def _missing(_: Request) -> Response:
    return JSONResponse({"error": "there is no such image"}, 404)
