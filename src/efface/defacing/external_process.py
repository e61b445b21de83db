"""Run an external program: time limit, its own process group, everything it prints kept."""

import os
import re
import signal
import subprocess
from pathlib import Path

from efface.errors import ExternalToolError

VERSION = re.compile(r"(?:version|v|\b[a-z_]+)[ :]*v?(\d+\.\d+(?:\.\d+)*)", re.IGNORECASE)
ASKING_TIMEOUT_S = 60.0


def run_program(name: str, arguments: list[str], folder: Path, timeout_s: float) -> str:
    """Run a program, never through a shell, and return what it printed.

    Parameters
    ----------
    name
        For messages.
    arguments
        Of the call, program included.
    folder
        Working directory; the log is written there.
    timeout_s
        The program and all processes it started are killed after this time.

    Raises
    ------
    ExternalToolError
        If it fails or takes too long.
    """
    log_path = folder / "log.txt"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            msg = f"{name} took more than {timeout_s:g} s and was stopped: give it more time, or use native"
            raise ExternalToolError(msg) from error
        finally:
            _kill_group(process)
    text = log_path.read_text(encoding="utf-8", errors="replace")
    if code != 0:
        msg = f"{name} failed with exit code {code}; its last lines: {last_lines(text)}"
        raise ExternalToolError(msg)
    return text


def version_in(text: str) -> str:
    """First version number in what a program printed; empty if there is none."""
    match = VERSION.search(text)
    return match.group(1) if match else ""


def ask_version(program: Path, arguments: tuple[str, ...] | None) -> str:
    """Version that a program prints for these arguments; empty if it prints none."""
    if arguments is None:
        return ""
    try:
        done = subprocess.run(
            [str(program), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ASKING_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return version_in(done.stdout + done.stderr)


def last_lines(log: str) -> str:
    """Last three lines that are not blank, as one line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-300:] or "none"


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill the program and every process that it started and left running."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # all have ended
        return
    process.wait()
