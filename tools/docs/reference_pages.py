"""MkDocs hook: fill the reference pages from the code, so that they cannot disagree with it.

A page says ``<!-- reference: NAME -->``; the comment is replaced by what `BLOCKS` makes for that name.
"""

import argparse
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

MARK = re.compile(r"<!-- reference: ([a-z_]+) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marks of a page (called by MkDocs)."""
    return MARK.sub(lambda match: BLOCKS[match.group(1)](), markdown)


def commands() -> str:
    """Every command with its arguments and options, from the parser."""
    from efface.cli import build_parser

    subparsers = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    helps = {action.dest: action.help or "" for action in subparsers._choices_actions}
    return "\n\n".join(_command(name, parser, helps[name]) for name, parser in subparsers.choices.items())


def _command(name: str, parser: argparse.ArgumentParser, text: str) -> str:
    positional = [_metavar(action) for action in parser._actions if not action.option_strings]
    usage = " ".join((f"efface {name}", *positional, "[OPTIONS]"))
    parts = [f"## efface {name} {{#{name}}}", f"{text[0].upper()}{text[1:]}.", f"```text\n{usage}\n```"]
    for title, options in (("Argument", True), ("Option", False)):
        rows = [
            _row(action)
            for action in parser._actions
            if bool(action.option_strings) != options and action.dest != "help"
        ]
        if rows:
            parts.append(_table((title, "Meaning"), rows))
    if parser.epilog:
        parts.append(parser.epilog)
    return "\n\n".join(parts)


def _metavar(action: argparse.Action) -> str:
    if action.metavar is not None:
        return " ".join(action.metavar) if isinstance(action.metavar, tuple) else str(action.metavar)
    return f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper()


def _row(action: argparse.Action) -> tuple[str, str]:
    names = _metavar(action)
    if not action.option_strings:
        shown = f"`{names}`"
    elif action.nargs == 0:
        shown = ", ".join(f"`{option}`" for option in action.option_strings)
    else:
        shown = ", ".join(f"`{option} {names}`" for option in action.option_strings)
    return shown, (action.help or "").replace("%%", "%")


def method_parameters() -> str:
    """Parameters of every defacing method."""
    from efface.defacing import METHODS

    return "\n\n".join(
        f"### {method.title} {{#{method.name}}}\n\n`--method {method.name}`\n\n{_parameters(method.params)}"
        for method in METHODS.values()
    )


def external_parameters() -> str:
    """Parameters of every external program."""
    from efface.defacing import METHODS

    return "\n\n".join(
        f"### {method.title}: `{method.external.program}` {{#{method.name}-external}}\n\n"
        f"{_parameters(method.external.params)}"
        for method in METHODS.values()
        if method.external is not None
    )


def segmenter_parameters() -> str:
    """Parameters of every segmenter."""
    from efface.segmentation import SEGMENTERS

    return "\n\n".join(
        f"### {segmenter.title} {{#{segmenter.name}}}\n\n`--segmenter {segmenter.name}`: {segmenter.summary}.\n\n"
        f"{_parameters(segmenter.params)}"
        for segmenter in SEGMENTERS.values()
    )


def methods() -> str:
    """The table of methods."""
    from efface.defacing import METHODS

    rows = [(f"[`{m.name}`](../methods/{m.name}.md)", m.summary, m.reference) for m in METHODS.values()]
    return _table(("Method", "What it does", "Paper"), rows)


def measures() -> str:
    """The table of measures."""
    from efface.metrics.table import MEASURES

    return _table(("Measure", "What it is"), [(f"`{name}`", _summary(made)) for name, made in MEASURES.items()])


def labels() -> str:
    """The labels of the nine regions."""
    from efface.segmentation.labels import REGIONS

    return _table(("Region", "BrainCOLOR labels"), [(name, ", ".join(map(str, ids))) for name, ids in REGIONS.items()])


def _summary(made: Any) -> str:
    text = getattr(made, "summary", None) or (getattr(made, "__doc__", "") or "").strip().splitlines()[0]
    return str(text)


def _parameters(params: Any) -> str:
    from efface.parameters import describe

    rows = [
        (f"`{p.name}`", p.type, f"`{p.default}`" if p.default else "", p.unit, p.allowed, p.help)
        for p in describe(params)
    ]
    return _table(("Parameter", "Type", "Default", "Unit", "Allowed", "Meaning"), rows) if rows else "No parameters."


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(_escaped(cells))} |" for cells in (header, ["---"] * len(header), *rows))


def _escaped(cells: Sequence[str]) -> Iterator[str]:
    return (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)


BLOCKS: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "methods": methods,
    "method_parameters": method_parameters,
    "external_parameters": external_parameters,
    "segmenter_parameters": segmenter_parameters,
    "measures": measures,
    "regions": labels,
}
