"""Docs cannot lie: blocks of the book run, commands exist, tables are those of the stored records."""

import ast
import importlib
import inspect
import re
import shlex
import sys
import tomllib
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import typer.main
import yaml

from bgbench.cli.main import app, guarded
from bgbench.core.errors import BgbenchError
from bgbench.core.options import parse_settings, select_prefixed
from bgbench.core.plugins import plugins
from bgbench.evaluation.suites import load_suite
from bgbench.runs.clusters import Slurm
from bgbench.runs.records import Record, read_arrays
from bgbench.runs.runfolder import RunFolder

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"
GENERATED = [DOCS / "reference" / f"{name}.md" for name in ("cli", "hooks", "record", "yaml")]
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if path not in GENERATED]


class Block(NamedTuple):
    """A fenced block of a page: its language, the words after that, and its text."""

    language: str
    words: str
    text: str


def blocks(page):
    """The fenced blocks of a page, in order."""
    return [Block(*found) for found in re.findall(r"^```(\w+)[ ]*(.*)\n((?:.*\n)*?)```$", page, re.MULTILINE)]


def is_executed(block):
    return block.language == "python" or (block.language, block.words) == ("bash", "run")


EXECUTED = [page for page in PAGES if any(is_executed(block) for block in blocks(page.read_text()))]
LONG = ("tutorials/publish.md", "tutorials/train.md", "tutorials/judge-samples.md", "howto/resume.md")
"""Pages that take longer than a quarter of a minute beside other work."""


def without_numbers(line):
    """A line of output with numbers replaced and blanks made one: what does not depend on the machine."""
    return " ".join(re.sub(r"[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?", "#", line).split())


def install(folder, site):
    """What `pip install -e FOLDER` does for the plugins of a process, into the folder `site`."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = site / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    entries = "\n".join(f"{name} = {module}" for name, module in project["entry-points"]["bgbench"].items())
    (info / "entry_points.txt").write_text(f"[bgbench]\n{entries}\n")
    plugins.cache_clear()


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    """Runs a line of a bash block in this process and in an empty folder beside `benchmarks`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    modules = set(sys.modules)

    def run(line):
        words = shlex.split(line, comments=True)
        if words[:3] == ["pip", "install", "-e"]:
            monkeypatch.syspath_prepend(str(tmp_path / "site"))
            monkeypatch.syspath_prepend(str(tmp_path / words[3]))
            install(tmp_path / words[3], tmp_path / "site")
            return
        assert words[0] == "bgbench", f"{line}: only bgbench is run here"
        monkeypatch.setattr(sys, "argv", words)
        code = guarded(app)
        assert code == 0, f"{line}: exit code {code}\n{capsys.readouterr().err}"

    yield run
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    plugins.cache_clear()


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(path, marks=[pytest.mark.slow] if str(path.relative_to(DOCS)) in LONG else [])
        for path in EXECUTED
    ],
    ids=lambda path: str(path.relative_to(DOCS)),
)
def test_the_blocks_of_a_page_run_and_print_what_it_shows(page, shell, capsys, tmp_path, monkeypatch):
    if page.name != "judge-samples.md":  # figures take longer than these cells; one page draws them
        monkeypatch.setattr("bgbench.api.draw_figures", lambda *words: None)
    names, printed, fresh, shape = {}, "", False, str
    for block in blocks(page.read_text()):
        if block.language == "text" and fresh:
            lines = {shape(line) for line in printed.splitlines()}
            for line in block.text.splitlines():
                assert shape(line) in lines, f"{page}: {line!r} was not printed; was:\n{printed}"
        elif block.language == "yaml" and block.words.startswith("file="):
            (tmp_path / block.words.removeprefix("file=")).write_text(block.text)
        elif is_executed(block):
            capsys.readouterr()
            if block.language == "python":
                exec(compile(block.text, str(page), "exec"), names)
            else:
                for line in block.text.splitlines():
                    shell(line)
            written = capsys.readouterr()
            printed = written.out + written.err
            shape = str if block.language == "python" else without_numbers  # samples differ by platform
        fresh = is_executed(block) or (fresh and block.language == "text")


def test_most_blocks_of_the_tutorials_are_executed():
    tutorials = [path for path in PAGES if path.parent.name == "tutorials"]
    assert len(tutorials) == 5
    assert {*tutorials} < {*EXECUTED}
    assert {DOCS / name for name in LONG} < {*EXECUTED}


@pytest.mark.parametrize(
    "page", [path for path in PAGES if "yaml file=" in path.read_text()], ids=lambda path: path.name
)
def test_suites_of_the_pages_can_be_read(page, tmp_path):
    for block in blocks(page.read_text()):
        if block.words.startswith("file="):
            path = tmp_path / block.words.removeprefix("file=")
            path.write_text(block.text)
            assert load_suite(str(path)).systems


def test_links_of_the_readme_lead_to_files():
    links = re.findall(r"\]\(([^)]+)\)", README)
    named = re.findall(r"`((?:docs|leaderboard|datasets|benchmarks)/[^`]+\.\w+)`", README)
    assert len(links) > 8
    assert [link for link in [*links, *named] if not (ROOT / link).is_file()] == []


def test_the_readme_is_short_and_its_pictures_are_small():
    assert len(README.splitlines()) <= 150
    for picture in (DOCS / "images").iterdir():
        assert picture.stat().st_size < 150_000


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_files_that_a_page_names_exist(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    folders = "benchmarks|datasets|docs|leaderboard|tests|bgbench"
    named = re.findall(rf"`((?:{folders})/[\w./-]+\.(?:md|py|png|yaml|sh))`", text)
    assert [name for name in named if "ROOM" not in name and not (ROOT / name).is_file()] == []


def numbers(text):
    return [float(n.replace(",", "")) for n in re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?", text)]


@pytest.mark.parametrize("page", ["dipeptides", "tetrapeptides"])
def test_the_readmes_numbers_are_those_of_the_results(page):
    """Means of the README stand in the generated table of the page, in the row of the same sampler."""
    source = (DOCS / "results" / f"{page}.md").read_text()
    rows = {
        line.split("|")[1].strip(): line for line in reversed(source.splitlines()) if line.startswith("| ")
    }
    table = README.partition(f"| 30 test {page} |")[2].partition("\n\n")[0]
    names = {"Verse": "verse", "MD": "md", "parallel tempering": "remd"}
    checked = 0
    for line in table.splitlines()[2:]:
        cells = [cell.strip(" *") for cell in line.split("|")[1:-1]]
        if cells[0] in names:
            for cell in cells[2:5]:
                assert float(cell) in numbers(rows[names[cells[0]]]), f"{cells[0]}: {cell}"
                checked += 1
    assert checked == 9


def test_citation_and_badges_are_of_this_version(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    badges = importlib.import_module("badges")
    assert badges.main([]) == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert all(citation[key] for key in ("cff-version", "message", "title", "authors"))


def test_generated_pages_name_everything_they_are_made_from(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    generate = importlib.import_module("generate")
    cli = generate.cli()
    for words in commands_of(typer.main.get_command(app)):
        assert f"## {words}\n" in cli
    hooks = generate.hooks()
    for kind in plugins().registries:
        assert f"## bgbench_{kind}\n" in hooks
    record = generate.record()
    for name in Record.model_fields:
        assert re.search(rf"^\| `{name}` \| .+ \| .* \| .+ \|$", record, re.MULTILINE), name
    files = generate.yaml()
    for key in ("systems", "forcefield", "nonbonded_method", "cut", "handedness", "tracking_uri"):
        assert f"| `{key}` |" in files


def test_the_list_for_agents_has_a_line_for_each_page(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    generate = importlib.import_module("generate")
    assert generate.first_sentence("# T\n\nOne **bold** [link](x.md). Two.") == "One bold link."
    assert generate.first_sentence("# T\n\n| a | b |") == ""
    text = generate.page_list({"a/b": "# T\n\nOne. Two.", "c": "# C\n\n## D"}, {"a/b": "T", "c": "C"})
    assert "- [T](_sources/a/b.md.txt): One.\n- [C](_sources/c.md.txt)\n" in text


def commands(lines):
    """Those that call bgbench, `&&` apart, without `time`."""
    parts = [part.strip().removeprefix("time ") for line in lines for part in line.split("&&")]
    return [part for part in parts if part.startswith("bgbench ")]


def spans(text):
    """What stands between backticks outside blocks, on one line each."""
    rest = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", rest)]


def bash_lines(text):
    """Lines of the bash blocks."""
    return "\n".join(re.findall(r"^```bash.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)).splitlines()


SCALE = (ROOT / "benchmarks" / "scale.md").read_text()
BOOK = "\n".join(path.read_text() for path in [ROOT / "README.md", *PAGES])
NAMED = [line for line in commands(spans(BOOK)) if not re.search(r"\||…", line)]
COMMANDS = [*commands(bash_lines(BOOK)), *NAMED, *commands([*bash_lines(SCALE), *spans(SCALE)])]
COMMANDS = list(dict.fromkeys(COMMANDS))


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_their_options_exist(line):
    words = shlex.split(line, comments=True)[1:]
    command = typer.main.get_command(app)
    while words and hasattr(command, "commands") and words[0] != "--help":
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    known = {"--help", *(option for parameter in command.params for option in parameter.opts)}
    assert {word for word in words if word.startswith("--")} <= known


def refuse_what_run_refuses(line, folder):
    """Raise BgbenchError, or fail, for words with which `bgbench run` does not start; suites of one's own are
    written to `folder`."""
    words = shlex.split(line, comments=True)
    options = {word: value for word, value in pairwise(words) if word.startswith("--")}
    suite = options.get("--suite", "dipeptides-mini")
    if suite.endswith(".yaml"):
        (folder / suite).write_text("systems: [AA]\nenergy: openmm\nbudget: 100\nseeds: 1\n")
        suite = str(folder / suite)
    load_suite(suite)
    assert "--resume" not in words or "--out" in words, line
    settings = parse_settings([value for word, value in pairwise(words) if word == "--set"])
    Slurm.build(select_prefixed(settings, "cluster"))


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("bgbench run ")])
def test_runs_are_not_refused_for_their_words(line, tmp_path):
    refuse_what_run_refuses(line, tmp_path)


def test_a_refused_command_is_noticed(tmp_path):
    page = (
        "`time bgbench run md --suite\n  many.yaml` and `bgbench run md --resume`\n```bash\nbgbench list\n```"
    )
    named, resumed = commands(spans(page))
    assert commands(bash_lines(page)) == ["bgbench list"]
    with pytest.raises(BgbenchError, match=r"call it name@1\.yaml"):
        refuse_what_run_refuses(named, tmp_path)
    with pytest.raises(AssertionError):
        refuse_what_run_refuses(resumed, tmp_path)
    assert any("--suite many@1.yaml" in line for line in COMMANDS)


def test_the_set_up_commands_are_the_ones_ci_runs():
    ci = (ROOT / ".ci" / "run").read_text()
    assert "pip install -q -c constraints.txt '.[test]' && pytest" in ci
    assert "pip install -c constraints.txt '.[test]' && pytest" in README
    assert "pip install -c constraints.txt . && bgbench run prose" in README


def test_pins_are_on_the_public_index():
    """A local version (`+cpu`) is on no public index: with one, README fails elsewhere."""
    pins = (ROOT / "constraints.txt").read_text().split()
    assert pins
    assert [pin for pin in pins if "+" in pin or "==" not in pin] == []
    assert (
        "pip install -q --dry-run --ignore-installed -c constraints.txt ."
        in (ROOT / ".ci" / "run").read_text()
    )


def test_the_map_of_the_house_is_todays(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    house = importlib.import_module("house")
    assert len(house.rooms()) == 13
    for name in house.PAGES:
        page = (ROOT / name).read_text()
        assert "| `core` |" in page
        assert house.rewritten(page) == page


@pytest.fixture
def parsed_once(monkeypatch):
    """Tables go through the records of a run dozens of times; nothing changes them here."""
    readable, read = RunFolder.readable, {}

    def remembered(run):
        if run.path not in read:
            read[run.path] = readable(run)
        records, complaints = read[run.path]
        return [*records], [*complaints]

    monkeypatch.setattr(RunFolder, "readable", remembered)


@pytest.mark.usefixtures("parsed_once")
def test_the_results_table_is_that_of_the_stored_records(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    results = importlib.import_module("results")
    folder = ROOT / "benchmarks" / "results"
    assert len(results.open_runs(folder)) >= 4
    assert (folder / "curves.png").stat().st_size > 5000
    page = results.page_with(results.START).read_text()
    assert results.rewrite_page(page, folder) == page


def test_a_table_has_one_page(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    results = importlib.import_module("results")
    monkeypatch.setattr(results, "PAGES", tmp_path)
    with pytest.raises(SystemExit, match="no place for the table"):
        results.page_with("<!-- here -->")
    (tmp_path / "one.md").write_text("a page\n<!-- here -->\n<!-- there -->\n")
    assert results.page_with("<!-- here -->").name == "one.md"
    (tmp_path / "two.md").write_text("<!-- here -->\n")
    with pytest.raises(SystemExit, match=r"stands in one\.md, two\.md"):
        results.page_with("<!-- here -->")


@pytest.mark.usefixtures("parsed_once")
def test_the_estimators_table_has_its_place_and_every_run_of_it_a_command(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    estimators = importlib.import_module("estimators")
    page = estimators.page_with(estimators.START).read_text()
    assert page.index(estimators.START) < page.index(estimators.END)
    monkeypatch.setattr("sys.argv", ["estimators.py", "prose", "--commands", "--only", "AA", "--seeds", "1"])
    estimators.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    for line in lines:
        test_commands_and_their_options_exist(line)
    if estimators.KEPT.is_dir():
        assert estimators.rewrite_page(page, estimators.KEPT, estimators.START, estimators.END) == page


@pytest.mark.usefixtures("parsed_once")
def test_headline_tables_are_those_of_the_stored_records(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    headline = importlib.import_module("headline")
    suites = [path.name for path in headline.KEPT.iterdir() if path.is_dir()]
    assert "dipeptides30" in suites
    for suite in ("dipeptides-mini", "tetrapeptides30"):
        for protocol in plugins().protocols:
            words = "" if protocol == headline.DEFAULT else f" --protocol {protocol}"
            marker = f"<!-- headline: python benchmarks/headline.py {suite}{words} -->"
            assert headline.TableKey(f"{suite}@1", protocol).markers[0] == marker
    for suite in suites:
        key = headline.key_of_plan(headline.open_runs(headline.KEPT / suite)[0].plan)
        page = headline.page_with(key.markers[0]).read_text()
        assert key.name == suite
        assert headline.rewrite_page(page, suite) == page
        assert (headline.KEPT / f"{suite}.png").stat().st_size > 5000
    for words in ([], ["--protocol", "paper@1"]):
        monkeypatch.setattr("sys.argv", ["headline.py", "tetrapeptides30", "--commands", *words])
        headline.main()
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == len(headline.SAMPLERS) - 1  # tbg, which 10⁴ evaluations do not suit
        for line in lines:
            test_commands_and_their_options_exist(line)
            assert ("--protocol paper@1" in line) == bool(words)
            assert ("variant=mode-deleted" in line) == ("/mode-deleted" in line)


@pytest.fixture
def scale(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("scale")


def test_the_scale_table_is_that_of_the_stored_records(scale, rough_peptides, monkeypatch):
    monkeypatch.setattr(scale, "atoms", lru_cache(scale.atoms))
    assert f"{scale.START}\n{scale.table(scale.kept_runs())}\n{scale.END}" in SCALE


@pytest.mark.parametrize(
    ("run", "points"),
    [
        ("headline/tetrapeptides30/md", 5120),
        ("headline/tetrapeptides30/remd", 5120),
        ("headline/tetrapeptides30/verse", 10_000),
        ("headline/tetrapeptides30/prose", 10_000),
        ("estimators/md", 10_000),
        ("estimators/verse-snis", 100_000),
        ("estimators/verse-self-improve", 20_000),
        ("estimators/verse-smc-ula", 10_000),
    ],
)
def test_points_of_array_files_are_counted_by_records(run, points, scale):
    assert scale.stored_points(RunFolder.open(ROOT / "benchmarks" / run).records()[0]) == points


def test_a_record_that_does_not_tell_its_points_gets_a_dash(scale):
    record = RunFolder.open(ROOT / "benchmarks" / "headline" / "tetrapeptides30" / "verse").records()[0]
    diagnostics = {name: value for name, value in record.diagnostics.items() if name != "ess_against_n"}
    silent = record.model_copy(update={"diagnostics": diagnostics})
    assert scale.stored_points(silent) is None
    assert scale.gigabytes([record, silent], {"ARIP": 69}) == "–"
    assert scale.gigabytes([record, record], {"ARIP": 69}) == f"{2 * 10_000 * (12 * 69 + 24) / 1e9:.3f}"


@pytest.mark.parametrize("name", ["md", "remd", "verse", "prose", "reference", "prior"])
def test_bytes_of_array_files_are_those_of_the_boards(name, scale):
    folder = ROOT / "leaderboard" / "records" / f"{name}-1000"
    record = Record.model_validate_json((folder / "cells" / "AA-s0.json").read_bytes())
    arrays = read_arrays(folder / "arrays" / "AA-s0.npz", record.arrays)
    held = scale.stored_points(record) * scale.point_bytes(record, arrays["x"].shape[1])
    assert held == sum(array.nbytes for array in arrays.values())


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 100


def commands_of(group, prefix="bgbench"):
    """Every command of the command line, in words."""
    for name, command in group.commands.items():
        words = f"{prefix} {name}"
        yield from commands_of(command, words) if hasattr(command, "commands") else [words]


def call_of(name):
    """What a dotted name of the docs stands for."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


PYTHON = (ROOT / "docs" / "python.md").read_text()
CALLS = dict(re.findall(r"^\| `(bgbench [^`]+)` \| `(bgbench[\w.]+)", PYTHON, re.MULTILINE))


def test_every_command_has_a_documented_call():
    assert {*CALLS} - {"bgbench run -c"} == {*commands_of(typer.main.get_command(app))}
    for command, name in CALLS.items():
        text = inspect.getdoc(call_of(name)) or ""
        assert len(text.splitlines()) >= 1, f"{command}: {name} says nothing"


def test_the_table_of_calls_names_parameters_that_exist():
    """A call of the table binds: it has no more arguments than the function takes, and all that it needs."""
    for call in re.findall(r"^\| `bgbench [^`]+` \| `([^`]+\))`", PYTHON, re.MULTILINE):
        tree = ast.parse(call, mode="eval").body
        function = call_of(ast.unparse(tree.func))
        keywords = {keyword.arg: None for keyword in tree.keywords}
        try:
            inspect.signature(function).bind(*tree.args, **keywords)
        except TypeError as error:
            raise AssertionError(f"{call}: {error}") from error
