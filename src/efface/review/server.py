"""Serve the review page until it is interrupted."""

import contextlib
import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path

import uvicorn

from efface.errors import InputError
from efface.review.app import make_app
from efface.review.session import Session

LOOPBACK = "127.0.0.1"
TOKEN_BYTES = 24


def serve(
    out_dir: Path,
    *,
    port: int = 0,
    reviewer: str = "",
    blind: bool = False,
    open_browser: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Session:
    """Serve a study's review page on this machine only, until interrupted.

    Parameters
    ----------
    out_dir
        Output of a study.
    port
        0 takes a free one.
    reviewer
        Name to begin with; empty: the page asks.
    blind
        Keep the automatic verdict and others' votes back until the reviewer has voted.
    open_browser
        Open the page in the browser of this desktop, if there is one.
    say
        Is given the address.

    Returns
    -------
    Session
        As it was at the end.

    Raises
    ------
    InputError
        If there is nothing to review, or the port cannot be used.
    """
    session = Session(out_dir, blind, reviewer)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    with _listen(port) as listener:
        url = f"http://{LOOPBACK}:{listener.getsockname()[1]}/{token}/"
        config = uvicorn.Config(
            make_app(session, token), log_level="warning", access_log=False, lifespan="off", ws="none",
            server_header=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
        say(url)
        if open_browser and _has_desktop():
            webbrowser.open(url)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
    return session


def _listen(port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        msg = f"--port must be from 1 to 65535, or 0 for a free one; received {port}"
        raise InputError(msg)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":  # else a port stays closed for a minute after a server that was killed
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        msg = f"port {port} cannot be used ({error.strerror}): choose another with --port, or leave it out"
        raise InputError(msg) from error
    return listener


def _has_desktop() -> bool:
    """Whether a browser would open in a window, and not in this terminal."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
