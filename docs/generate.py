"""The pages of the reference that are made from the code, and `llms.txt`, the list of all pages.

Sphinx calls `write_pages` before it reads the pages, and `write_list` after it has written the site. What
they write is not stored in the repository, so that it cannot be out of date.
"""

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import typer.main

from bgbench.cli.main import app
from bgbench.core import hookspecs
from bgbench.core.abstract import Conventions
from bgbench.core.types import ForceFieldSpec, Suite
from bgbench.evaluation.cell import Cell
from bgbench.evaluation.protocols import Protocol
from bgbench.runs import shapes
from bgbench.runs.configs import KEYS
from bgbench.runs.records import Arrays, Budget, Record
from bgbench.runs.request import RunRequest

DOCS = Path(__file__).parent
HIDDEN = ("sha256",)
"""Fields of suites and protocols that no file holds."""


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; a bar in a cell is escaped."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(c.split()).replace("|", "\\|") for c in row) + " |" for row in lines
    )


def commands(group: Any, words: str = "bgbench") -> Iterator[tuple[str, Any]]:
    """Every command with its words, in the order of the help."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{words} {name}")
        else:
            yield f"{words} {name}", command


def command_section(words: str, command: Any) -> str:
    """One command: what it does, an example, arguments and options."""
    usage = words
    rows = []
    for parameter in command.params:
        text = parameter.help or ""
        if parameter.param_type_name == "argument":
            name = parameter.name.upper()
            usage += f" {name}" if parameter.required else f" [{name}]"
            rows.append((f"`{name}`", text))
        else:
            plain = [option for option in parameter.opts if option.startswith("--")]
            rows.append((", ".join(f"`{option}`" for option in plain), text))
    parts = [f"## {words}", inspect.cleandoc(command.help or ""), f"```text\n{usage} [OPTIONS]\n```"]
    parts += [table(("argument or option", "meaning"), rows)] if rows else []
    if command.epilog:
        parts.append(command.epilog)
    return "\n\n".join(parts)


def cli() -> str:
    """The page of the command line."""
    sections = [command_section(*item) for item in commands(typer.main.get_command(app))]
    first = (
        "# Command line\n\nEvery command prints its help with `--help`. Options may stand anywhere after the "
        "command. A mistake is one line and exit code 2; exit code 1 says that the answer is no."
    )
    return "\n\n".join([first, *sections]) + "\n"


def attributes(kind: type) -> dict[str, str]:
    """The texts of the `Attributes:` or `Args:` section of a docstring, by name."""
    found: dict[str, str] = {}
    name = ""
    inside = False
    for line in (inspect.getdoc(kind) or "").splitlines():
        if line in ("Attributes:", "Args:"):
            inside = True
        elif inside and line and not line.startswith(" "):
            inside = False
        elif inside and (match := re.match(r"    (\w+): (.*)", line)):
            name = match[1]
            found[name] = match[2]
        elif inside and name and line.startswith("        "):
            found[name] += f" {line.strip()}"
    return found


def type_text(annotation: Any) -> str:
    """A type as a reader writes it: `text`, `list of text`, `one of …`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(type_text(one) for one in inner)
    if origin in (list, tuple):
        return f"list of {type_text(inner[0])}"
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return f"{type_text(inner[0])} → {type_text(inner[1])}"
    if str(origin) == "typing.Literal":
        return ", ".join(f"`{one}`" for one in inner)
    if hasattr(annotation, "__metadata__"):
        return type_text(annotation.__origin__)
    names = {str: "text", int: "whole number", float: "number", bool: "yes or no", type(None): "null"}
    names |= {Any: "any", Path: "path"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def default_text(field: "dataclasses.Field[Any]") -> str:
    """The default of a field of a dataclass, as YAML; empty where there is none."""
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        return "see below"
    else:
        return "**required**"
    if value is None:
        return "`null`"
    return f"`[{', '.join(value)}]`" if isinstance(value, tuple) else f"`{value}`" if value != "" else ""


def fields_table(kind: Any, without: tuple[str, ...] = ()) -> str:
    """The fields of a dataclass: name, type, default, meaning."""
    meanings = attributes(kind)
    hints = inspect.get_annotations(kind, eval_str=True)
    rows = [
        (f"`{field.name}`", type_text(hints[field.name]), default_text(field), meanings.get(field.name, ""))
        for field in dataclasses.fields(kind)
        if field.name not in without
    ]
    return table(("key", "value", "default", "meaning"), rows)


def yaml() -> str:
    """The page of YAML files."""
    named = ("name", "version", *HIDDEN)
    return (
        "\n\n".join(
            [
                "# YAML files",
                "Suites and protocols are files `NAME@VERSION.yaml`, whose name holds name and version. Both "
                "are read strictly: an unknown key, a number in quotes or a repeated key is refused.",
                "## A suite",
                "```yaml\n" + (DOCS.parent / "benchmarks/suites/dipeptides-mini@1.yaml").read_text() + "```",
                fields_table(Suite, named),
                "### forcefield",
                fields_table(ForceFieldSpec),
                "## A protocol",
                "```yaml\n" + (DOCS.parent / "benchmarks/protocols/bgbench@1.yaml").read_text() + "```",
                fields_table(Protocol, named),
                "### conventions",
                fields_table(Conventions),
                "## A run configuration",
                "For `bgbench run -c FILE`, see [](../howto/cluster.md). Every run folder holds one.",
                model_table(RunRequest, attributes(RunRequest), KEYS),
            ]
        )
        + "\n"
    )


def comments_of(kind: type) -> str:
    """The docstring of a class, in one line."""
    return " ".join((inspect.getdoc(kind) or "").split())


MEANINGS = {
    "schema_version": "of this table",
    "id": "hash of the cell and of everything it depends on",
    "cell": "what determines it, see below",
    "status": "how it ended",
    "error": "the cause, where it did not end well",
    "phase": "the stage it ended in: tune, draw, estimate, judge, …",
    "metrics": "every metric and its companions; null where there is none, never NaN",
    "floors": "noise floors of those that have one",
    "skills": "1 on the floor, 0 for the prior",
    "diagnostics": "what was checked and observed, see below",
    "budget": "evaluations, see below",
    "reference": "which reference judged it: hash, grade, number of frames",
    "card": "what the sampler declares of itself",
    "energy": "what computed energies, and how far from OpenMM's",
    "leakage": "whether the system was trained on",
    "seconds": "by stage",
    "provenance": "versions, commit, host, device, command",
    "arrays": "the file of arrays and its hash",
}
"""What the fields of a record mean."""


def model_table(
    kind: Any, meanings: Mapping[str, str] | None = None, only: tuple[str, ...] | None = None
) -> str:
    """The fields of a pydantic model, or `only` some of them."""
    rows = []
    for name, field in kind.model_fields.items():
        if only is not None and name not in only:
            continue
        required = "**required**" if field.is_required() else ""
        rows.append((f"`{name}`", type_text(field.annotation), required, (meanings or {}).get(name, "")))
    heads = ("field", "value", "", "meaning")
    if not meanings:
        return table(heads[:3], [row[:3] for row in rows])
    return table(heads, rows)


def shape_table(kind: Any) -> str:
    """The keys of a typed dictionary, and their types."""
    rows = [
        (f"`{name}`", type_text(value))
        for name, value in inspect.get_annotations(kind).items()
        if not name.startswith("__")
    ]
    return table(("key", "value"), rows)


def record() -> str:
    """The page of records."""
    open_fields = {
        "DiagnosticsShape": "diagnostics",
        "DensityShape": "diagnostics.density",
        "CheckShape": "diagnostics.density.checks.NAME",
        "ForwardShape": "diagnostics.forward",
        "ReferenceShape": "reference",
        "CardShape": "card",
        "EnergyShape": "energy",
        "ProvenanceShape": "provenance",
    }
    parts = [
        "# Records",
        "`cells/NAME.json` of a run folder is the record of one cell. `bgbench.load_run(RUN).records` reads "
        "all of them.",
        "## Record",
        model_table(Record, MEANINGS),
        "## cell",
        model_table(Cell),
        "## budget",
        "`ledger` is evaluations by phase and kind.",
        model_table(Budget),
        "## arrays",
        model_table(Arrays),
        "The file is an npz with `x (n, atoms, 3)` in nm and float32, `u (n,)` in kT, `log_w (n,)` and, "
        "where there are any, `log_q` of the proposal and `group`, the independent group of each point.",
        "## Open fields",
        "These hold more than is listed, since plugins add entries. What bgbench itself reads is checked:",
    ]
    for name, place in open_fields.items():
        parts += [f"### {place}", shape_table(getattr(shapes, name))]
    return "\n\n".join(parts) + "\n"


def hooks() -> str:
    """The page of hooks."""
    tree = ast.parse(Path(inspect.getsourcefile(hookspecs) or "").read_text())
    parts = [
        "# Hooks",
        "A plugin is a module named in the entry-point group `bgbench`. It implements any of these hooks, "
        "each marked with `@bgbench.hookimpl`. A hook takes no argument and returns a list. "
        "`tests/example_plugin` in the repository implements all of them; [](../authoring.md) says how to "
        "begin.",
        '```toml\n[project.entry-points.bgbench]\nmy_plugin = "my_package.my_module"\n```',
    ]
    for node in tree.body:
        if not (isinstance(node, ast.FunctionDef) and node.name.startswith("bgbench_")):
            continue
        text = inspect.cleandoc(ast.get_docstring(node) or "")
        returned = (
            ast.unparse(node.returns).removeprefix("Sequence[").removesuffix("]") if node.returns else ""
        )
        parts += [f"## {node.name}", text]
        if returned == "Path":
            parts.append("Returns paths of files, see [](yaml.md).")
        else:
            parts += [f"Returns values of `{returned}`:", fields_table(getattr(hookspecs, returned))]
    return "\n\n".join(parts) + "\n"


PAGES: dict[str, Callable[[], str]] = {"cli": cli, "hooks": hooks, "record": record, "yaml": yaml}


def write_pages() -> None:
    """Write the generated pages into `docs/reference`."""
    for name, page in PAGES.items():
        path = DOCS / "reference" / f"{name}.md"
        text = page()
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


def first_sentence(text: str) -> str:
    """The first sentence of a page below its title; empty where the page starts with something else."""
    body = re.sub(r"\A# .*\n+", "", text)
    if body.startswith(("|", "`", "<", "{", "!", "#", "    ")):
        return ""
    paragraph = " ".join(body.partition("\n\n")[0].split())
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", paragraph).replace("**", "")
    return re.split(r"(?<=[.?!:])\s", plain)[0].rstrip(":")


def page_list(sources: Mapping[str, str], titles: Mapping[str, str]) -> str:
    """`llms.txt`: a line for each page of the book, with a link to its source."""
    lines = ["# bgbench", "", "> An equal-budget benchmark of transferable Boltzmann generators.", ""]
    for name in sorted(sources):
        sentence = first_sentence(sources[name])
        lines.append(f"- [{titles[name]}](_sources/{name}.md.txt)" + (f": {sentence}" if sentence else ""))
    return "\n".join(lines) + "\n"


def write_list(site: Path, titles: Mapping[str, str]) -> None:
    """Write `llms.txt` into a built site."""
    sources = {name: (DOCS / f"{name}.md").read_text() for name in titles}
    (site / "llms.txt").write_text(page_list(sources, titles))
