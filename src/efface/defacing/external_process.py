"""Run an external program with a time limit, keep what it prints, and find its version."""

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from efface.errors import ExternalToolError
from efface.io.programs import search_path

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
            arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True, env={**os.environ, "PATH": search_path()},  # what it calls may lie beside it
        )  # fmt: skip
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


def printed_version(*arguments: str) -> Callable[[Path], str]:
    """Make a function that finds the version that a program prints for these arguments.

    Parameters
    ----------
    *arguments
        Of the call, without the program.
    """
    return lambda program: version_in(_printed([str(program), *arguments]))


def package_version(name: str) -> Callable[[Path], str]:
    """Make a function that finds the version of the Python package that a script belongs to.

    Parameters
    ----------
    name
        Of the package. The interpreter in the first line of the script is asked.
    """
    code = f"import importlib.metadata as m; print('version', m.version({name!r}))"

    def version(program: Path) -> str:
        with program.open("rb") as file:
            interpreter = os.fsdecode(file.readline(4096)).removeprefix("#!").strip()
        if not Path(interpreter).name.startswith("python"):
            return ""
        return version_in(_printed([interpreter, "-I", "-c", code]))

    return version


def version_in_file(name: str) -> Callable[[Path], str]:
    """Make a function that finds the version in a file of the installation.

    Parameters
    ----------
    name
        Of the file, relative to one of the folders above the program.
    """

    def version(program: Path) -> str:
        for folder in program.resolve().parents[:4]:
            if (folder / name).is_file():
                return version_in(f"version {(folder / name).read_text(encoding='utf-8', errors='replace')}")
        return ""

    return version


def _printed(arguments: list[str]) -> str:
    """What a short call prints; empty if it cannot be made or takes too long."""
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=ASKING_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


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
