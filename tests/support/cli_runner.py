"""Running the command line inside a test."""

from efface.cli import main


def run(capsys, *words):
    """Exit code, stdout and stderr of a command."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err
