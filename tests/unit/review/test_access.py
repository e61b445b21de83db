"""Tickets and cookies of the review page, and whose connection it is."""

import socket
import sys

import pytest

from efface.review import access
from efface.review.access import Access, Guard, owner_of

OURS, THEIRS = ("127.0.0.1", 8000), ("127.0.0.1", 50000)
TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 20 4 0 10 -1
   1: 0100007F:C350 0100007F:1F40 01 00000000:00000000 00:00000000 00000000  {uid}        0 2 1 0 20 4 0 10 -1
"""


async def answered(guard, path):
    """Status of one request."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "client": THEIRS, "server": OURS,
             "query_string": b""}  # fmt: skip
    await guard(scope, None, send)
    return sent[0]["status"]


def run(coroutine):
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError


@pytest.mark.parametrize(
    ("server", "owner", "status"), [(1000, 1000, 200), (1000, 0, 200), (1000, 1001, 404), (0, 1001, 200)]
)
def test_a_ticket_is_refused_to_another_user_and_stays_valid_for_its_own(monkeypatch, tmp_path, server, owner, status):
    table = tmp_path / "tcp"
    table.write_text(TABLE.format(uid=owner))
    monkeypatch.setattr(access, "CONNECTIONS", table)
    monkeypatch.setattr(access.os, "getuid", lambda: server)
    announced = []
    door = Access(announced.append)
    path = door.path
    assert run(answered(Guard(None, door), path)) == status
    assert (door.path == path) == (status == 404)
    assert announced == ([door.path] if status == 200 else [])


@pytest.mark.parametrize("text", [None, "nonsense", TABLE.format(uid=5).replace("C350", "C351")])
def test_where_the_system_does_not_say_whose_it_is_nobody_owns_it(monkeypatch, tmp_path, text):
    table = tmp_path / "tcp"
    if text is not None:
        table.write_text(text)
    monkeypatch.setattr(access, "CONNECTIONS", table)
    assert owner_of(THEIRS, OURS) is None
    assert owner_of(None, OURS) is None
    assert owner_of(("name", 1), OURS) is None


@pytest.mark.skipif(sys.platform != "linux", reason="the table is Linux's")
def test_linux_says_that_our_own_connection_is_ours():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        assert owner_of(client.getsockname(), listener.getsockname()) == access.os.getuid()


def test_a_closed_terminal_does_not_keep_a_browser_out():
    def closed(_path):
        raise BrokenPipeError

    door = Access(closed)
    assert door.exchange(door.path.split("/")[-1]).status_code == 200
