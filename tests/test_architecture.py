"""The house rules of the design, as failing checks on the source (stdlib ast)."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "bgbench").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
SOURCES = CORE + PLUGINS

ROOMS = (
    "cli",
    "leaderboard",
    "reports",
    "authoring",
    "runs",
    "evaluation",
    "references",
    "dynamics",
    "metrics",
    "estimators",
    "energies",
    "systems",
    "core",
)
"""A room imports from rooms further down this list, and from no other."""

DOORS = ("__init__", "__main__", "api", "builtin", "data", "testing")
"""Modules at the root. They import from any room but `cli`, which alone imports `api`."""


def unit(path: Path) -> str:
    """The top-level module of the core that a file belongs to."""
    return path.relative_to(ROOT / "bgbench").parts[0].removesuffix(".py")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(tree: ast.Module) -> list[str]:
    """Dotted names of every import anywhere in the file, `from a import b` as a.b; none is relative."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: a relative import, whose room nobody sees"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def crossings(path: Path) -> list[tuple[str, str]]:
    """What a file of the core imports of other rooms and of doors: the room and the dotted name."""
    parts = [name.split(".") for name in imports(parse(path))]
    names = [(words[1], ".".join(words)) for words in parts if words[0] == "bgbench" and len(words) > 1]
    return [(room, name) for room, name in names if room != unit(path)]


def test_the_house_has_thirteen_rooms_and_its_doors():
    folders = {path.parent.name for path in CORE if path.name == "__init__.py"} - {"bgbench"}
    assert folders == set(ROOMS)
    assert {path.stem for path in CORE if path.parent.name == "bgbench"} <= set(DOORS)


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    room = unit(path)
    for other, name in crossings(path):
        if room in DOORS:
            assert other in (*ROOMS[1:], *DOORS) or room == "__main__", f"{path} imports {name}"
        elif room == "cli":
            assert other in (*ROOMS, "api", "data", "testing"), f"{path} imports {name}"
        else:
            assert other in ROOMS[ROOMS.index(room) + 1 :], f"{path}: {room} imports {name}"


def test_the_check_of_imports_sees_one_that_goes_up(tmp_path, monkeypatch):
    path = tmp_path / "bgbench" / "core" / "files.py"
    path.parent.mkdir(parents=True)
    path.write_text("def late():\n    from bgbench.runs import cells\n")
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    with pytest.raises(AssertionError, match=r"core imports bgbench\.runs\.cells"):
        test_imports_go_one_way(path)


@pytest.mark.parametrize("room", ROOMS)
def test_no_circle_inside_a_room(room):
    """Modules of a room can be put in an order in which each imports only earlier ones."""
    needs = {}
    for path in (ROOT / "bgbench" / room).glob("*.py"):
        inner = [name.split(".") for name in imports(parse(path)) if name.startswith(f"bgbench.{room}.")]
        needs[path.stem] = {words[2] for words in inner} - {path.stem}
    TopologicalSorter(needs).prepare()


def page(room: str) -> str:
    """The docstring of a room, which says what is in it."""
    return ast.get_docstring(parse(ROOT / "bgbench" / room / "__init__.py")) or ""


def named(text: str) -> list[str]:
    """What a page names in backticks: words of Python, with dots between them."""
    return re.findall(r"`([A-Za-z_]\w*(?:\.\w+)*)`", text)


def modules_of(room: str) -> list[str]:
    """The names of a room's modules."""
    return sorted(path.stem for path in (ROOT / "bgbench" / room).glob("*.py") if path.stem != "__init__")


def defined_in(path: Path) -> set[str]:
    """The names that a module defines at its top level."""
    names = set()
    for node in parse(path).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def exists(name: str, room: str) -> bool:
    """Whether there is something that a page of `room` may call `name`.

    That is a room or a module, written from the package down (`bgbench.api`), from a room
    (`core.types`) or from the room itself (`types`); a name that such a module defines (`types.Atom`); and,
    without its module, a name that any module of the room defines or that the public door has.
    """
    import bgbench

    for place in ("", "bgbench.", f"bgbench.{room}."):
        path = ROOT.joinpath(*f"{place}{name}".split("."))
        module = path.parent.with_suffix(".py")
        if path.is_dir() or path.with_suffix(".py").is_file():
            return True
        if module.is_file() and path.name in defined_in(module):
            return True
    inside = [ROOT / "bgbench" / room / f"{module}.py" for module in modules_of(room)]
    return name in bgbench.__all__ or any(name in defined_in(path) for path in inside)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_a_page_and_runs_no_code(room):
    """The door stays lazy: a room's `__init__.py` holds its docstring and imports nothing."""
    tree = parse(ROOT / "bgbench" / room / "__init__.py")
    assert page(room)
    assert len(tree.body) == 1


@pytest.mark.parametrize("room", ROOMS)
def test_the_page_of_a_room_names_each_of_its_modules(room):
    heads = {name.split(".")[0] for name in named(page(room))}
    assert [module for module in modules_of(room) if module not in heads] == []


@pytest.mark.parametrize("room", ROOMS)
def test_what_the_page_of_a_room_names_exists(room):
    assert [name for name in named(page(room)) if not exists(name, room)] == []


def test_the_check_of_pages_sees_a_module_left_out_and_one_that_is_gone(tmp_path, monkeypatch):
    room = tmp_path / "bgbench" / "core"
    room.mkdir(parents=True)
    (room / "__init__.py").write_text('"""Open `types` (`Atom`, `core.types`), then `gone`."""\n')
    (room / "types.py").write_text("class Atom: ...\n")
    (room / "units.py").write_text("")
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    with pytest.raises(AssertionError, match="units"):
        test_the_page_of_a_room_names_each_of_its_modules("core")
    with pytest.raises(AssertionError, match="gone"):
        test_what_the_page_of_a_room_names_exists("core")


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_use_only_the_public_door(path):
    import bgbench

    own = path.relative_to(ROOT / "plugins").parts[0]
    for imported in imports(parse(path)):
        parts = imported.split(".")
        if parts[0] == "bgbench" and len(parts) > 1:
            assert parts[1] in ("data", "testing", *bgbench.__all__), f"{path} imports {imported}"
        allowed = {own, "bgbench_training"}
        assert not parts[0].startswith("bgbench_") or parts[0] in allowed, f"{path} imports {imported}"


def test_the_door_is_small_lazy_and_whole():
    """Every public name is there, known to type checkers, and no module's; torch is not imported."""
    import bgbench

    assert len(bgbench.__all__) <= 47
    checked = [
        alias.asname or alias.name
        for node in ast.walk(parse(ROOT / "bgbench" / "__init__.py"))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("bgbench.")
        for alias in node.names
    ]
    assert sorted([*checked, "__version__"]) == sorted(bgbench.__all__)
    assert {name for name in bgbench.__all__ if getattr(bgbench, name) is None} == set()
    modules = {path.stem for path in (ROOT / "bgbench").iterdir()}
    assert not modules & set(bgbench.__all__)
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        _ = bgbench.runn
    heavy = "import sys, bgbench; print({'torch', 'numba', 'openmm', 'scipy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", heavy], text=True) == "set()\n"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_hidden(path):
    """No assert, hasattr, star import, global seed, thread count, dtype or unpickling in shipped code."""
    text_calls = {
        "hasattr", "torch.manual_seed", "np.random.seed", "random.seed", "torch.set_num_threads",
        "torch.set_default_dtype", "pickle.load", "pickle.loads", "yaml.load", "eval", "exec",
    }  # fmt: skip
    allowed = {"random.seed": {"peptides.py"}, "torch.set_num_threads": {"process.py"}}
    for node in ast.walk(parse(path)):
        assert not isinstance(node, ast.Assert), f"{path}:{node.lineno} uses assert"
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), f"{path}:{node.lineno} star import"
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            if call in text_calls:
                assert path.name in allowed.get(call, set()), f"{path}:{node.lineno} calls {call}"
            if call == "torch.load":
                assert "weights_only=True" in ast.unparse(node), f"{path}:{node.lineno} unpickles"
            if call == "np.load":
                assert "allow_pickle=True" not in ast.unparse(node), f"{path}:{node.lineno} unpickles"


def bases_by_class(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Names of the classes that each class derives from, without modules and type arguments."""
    bases: dict[str, list[str]] = {}
    for path in paths:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases]
    return bases


@cache
def implementations() -> frozenset[str]:
    """Classes that implement an interface of plugins: engines, energies, samplers and estimators."""
    interfaces = {"AbstractEngine", "AbstractEnergy", "AbstractEstimator", "AbstractSampler"}
    interfaces |= {"AbstractDensitySampler", "Invertible", "Tunable"}
    bases = bases_by_class(SOURCES)
    return frozenset(name for name, parents in bases.items() if interfaces & {*parents}) - interfaces


@cache
def registered_names() -> frozenset[str]:
    """Names under which bgbench registers its own. `none`, an estimator, is a word for other things too."""
    from bgbench.core.plugins import plugins

    names = {
        name
        for registry in plugins().registries.values()
        for name in registry
        if registry.origin(name).distribution == "bgbench"
    }
    return frozenset(names - {"none"})


def names_in(node: ast.AST) -> set[str]:
    """Names of classes that an expression mentions, without their modules."""
    return {
        n.id if isinstance(n, ast.Name) else n.attr
        for n in ast.walk(node)
        if isinstance(n, (ast.Name, ast.Attribute))
    }


def words_in(node: ast.AST) -> set[str]:
    """Strings that an expression is, or that are elements of the tuple, list or set that it is."""
    parts = node.elts if isinstance(node, (ast.Tuple, ast.List, ast.Set)) else [node]
    return {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def special_cases(tree: ast.Module) -> list[str]:
    """Where code treats what is shipped otherwise than what anyone registers: by its class or by its name."""
    families = {f"{name.partition(':')[0]}:" for name in registered_names() if ":" in name}
    cases = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, kinds]):
                found = names_in(kinds) & implementations()
            case ast.Call(func=ast.Attribute(attr="startswith" | "removeprefix"), args=[prefix, *_]):
                found = words_in(prefix) & (families | registered_names())
            case ast.Compare(left=left, comparators=others):
                sides = [left, *others]
                found = {word for side in sides for word in words_in(side)} & registered_names()
                if any(isinstance(side, ast.Call) and ast.unparse(side.func) == "type" for side in sides):
                    found |= {name for side in sides for name in names_in(side)} & implementations()
            case ast.MatchValue(value=value):
                found = words_in(value) & registered_names()
            case ast.MatchClass(cls=kind):
                found = names_in(kind) & implementations()
            case _:
                continue
        cases += [f"line {node.lineno} asks for {name}" for name in sorted(found)]
    return cases


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_asked_whether_it_is_one_of_ours(path):
    """What a plugin registers answers for itself: no code of the core looks at its class or at its name."""
    assert special_cases(parse(path)) == []


@pytest.mark.parametrize(
    "code",
    [
        "isinstance(engine, TemperingEngine)",
        "isinstance(energy, (str, batched.BatchedEnergy))",
        "issubclass(kind, SNIS)",
        "type(estimator) is SNIS",
        "name == 'prose'",
        "name in ('x', 'snis')",
        "'softened' != plugin.engine.name",
        "metric == 'torus_w2'",
        "suite == 'dipeptides-mini@1'",
        "name.startswith('analytic:')",
        "match name:\n    case 'md' | 'x':\n        pass",
        "match energy:\n    case OpenMMEnergy():\n        pass",
    ],
)
def test_the_check_of_special_cases_sees(code):
    assert special_cases(ast.parse(code)) != []


@pytest.mark.parametrize(
    "code",
    [
        "isinstance(sampler, AbstractDensitySampler)",
        "isinstance(sampler, Invertible)",
        "name == own_name",
        "protocol.cut != 'none'",
        "value in record.metrics",
    ],
)
def test_the_check_of_special_cases_lets_pass(code):
    assert special_cases(ast.parse(code)) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_things_have_docstrings(path):
    tree = parse(path)
    assert ast.get_docstring(tree), f"{path} has no docstring"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name} has no docstring"


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_training_stays_off_the_evaluation_path(path):
    assert not any(name.split(".")[0] in ("lightning", "pytorch_lightning") for name in imports(parse(path)))


def test_interfaces_are_one_level_deep():
    """A class of the core or the plugins derives from an abstract class or from nothing."""
    bases = bases_by_class(SOURCES)
    capabilities = {"Invertible", "Tunable"}
    open_for_subclassing = {"Observer", "Strict", "BgbenchError", "Exception", "SamplerLaws", *capabilities}
    for name, parents in bases.items():
        for parent in parents:
            if parent in bases and parent not in open_for_subclassing and name != "HasAtoms":
                assert parent.startswith(("Abstract", "_Abstract")), f"{name} derives from {parent}"
