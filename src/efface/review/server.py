"""Serve the review page until it is interrupted."""

import contextlib
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

import uvicorn

from efface.errors import InputError
from efface.io.scratch import private_temporary_folder
from efface.review.access import Access
from efface.review.app import make_app
from efface.review.session import Session

LOOPBACK = "127.0.0.1"


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
        Output of a study, or a shared data set.
    port
        0 takes a free one.
    reviewer
        Name to begin with; empty: the page asks.
    blind
        Keep the automatic verdict and others' votes back until the reviewer has voted.
    open_browser
        Open the page in the browser of this desktop, if there is one.
    say
        Is given the address, which works once; and a new one, for another browser, each time one was used.

    Returns
    -------
    Session
        As it was at the end.

    Raises
    ------
    InputError
        If there is nothing to review, or the port cannot be used.
    """
    with contextlib.ExitStack() as stack:
        session = Session(out_dir, blind, reviewer, stack.enter_context(private_temporary_folder()))
        listener = stack.enter_context(_listen(port))
        home = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        access = Access(lambda path: say(home + path))
        config = uvicorn.Config(
            make_app(session, access), log_level="warning", access_log=False, lifespan="off", ws="none",
            server_header=False, timeout_graceful_shutdown=1, proxy_headers=False,
        )  # fmt: skip
        url = home + access.path
        say(url)
        if open_browser and _has_desktop():
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()  # some wait until it is closed
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
