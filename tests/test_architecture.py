"""The house rules of the design, as failing checks on the source (stdlib ast)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "bgbench").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
SOURCES = CORE + PLUGINS

LAYERS = [
    {"units", "errors", "interrupts", "resources", "memory", "stages", "threads"},
    {"chemistry"},
    {"types"},
    {"abstract"},
    {"registered"},
    {"hookspecs"},
    {"energies"},
    {"dynamics"},
    {"pareto"},
    {"weights"},
    {"records", "provenance"},
    {"runfolder", "subprocesses", "hub", "guard"},
    {"systems", "references", "estimators", "metrics", "statistics", "leakage", "audit", "choices"},
    {"plugins"},
    {"protocols", "suites", "testing"},
    {"run", "floors", "weighed", "agreement"},
    {"cells"},
    {"report", "tracking", "worker", "compare", "replay"},
    {"curves", "executors", "mirroring", "planning"},
    {"remote", "clusters"},
    {"breakeven"},
    {"pages"},
    {"leaderboard"},
    {"api"},
    {"builtin"},
    {"display", "progress", "targets"},
    {"cli_data", "cli_leaderboard", "cli_runs"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def unit(path: Path) -> str:
    """The top-level module of the core that a file belongs to."""
    return path.relative_to(ROOT / "bgbench").parts[0].removesuffix(".py")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(tree: ast.Module) -> list[str]:
    """Dotted names of every import anywhere in the file, `from a import b` as a.b."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_from_lower_layers(path):
    name = unit(path)
    if name == "__init__":
        return
    assert name in LEVEL, f"{name} has no layer: add it to LAYERS and to the README's architecture"
    for imported in imports(parse(path)):
        parts = imported.split(".")
        if parts[0] != "bgbench":
            continue
        other = parts[1]
        assert other == name or LEVEL[other] < LEVEL[name], f"{path}: {name} imports {imported}"


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_use_only_the_public_door(path):
    import bgbench

    own = path.relative_to(ROOT / "plugins").parts[0]
    for imported in imports(parse(path)):
        parts = imported.split(".")
        if parts[0] == "bgbench" and len(parts) > 1:
            assert parts[1] == "testing" or parts[1] in bgbench.__all__, f"{path} imports {imported}"
        allowed = {own, "bgbench_training"}
        assert not parts[0].startswith("bgbench_") or parts[0] in allowed, f"{path} imports {imported}"


def test_init_only_re_exports():
    path = ROOT / "bgbench" / "__init__.py"
    tree = parse(path)
    allowed = (ast.ImportFrom, ast.Assign, ast.Expr)
    assert all(isinstance(node, allowed) for node in tree.body)
    assert [n.targets[0].id for n in tree.body if isinstance(n, ast.Assign)] == ["__all__"]
    import bgbench

    assert all(name in dir(bgbench) for name in bgbench.__all__)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    assert len(path.read_text().splitlines()) <= 300, f"{path} is longer than 300 lines"
    for function in functions(parse(path)):
        lines = body_lines(function)
        assert lines <= 60, f"{path}:{function.lineno} {function.name} has {lines} lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_at_most_six_parameters(path):
    if unit(path) == "cli" or path.stem.startswith("cli") if path in CORE else False:
        pytest.skip("a typer command's parameters are its options")
    for function in functions(parse(path)):
        names = [arg.arg for arg in function.args.posonlyargs + function.args.args + function.args.kwonlyargs]
        counted = [name for name in names if name not in ("self", "cls", "ctx")]
        assert len(counted) <= 6, f"{path}:{function.lineno} {function.name}{counted}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_hidden(path):
    """No assert, hasattr, star import, global seed, thread count, dtype or unpickling in shipped code."""
    text_calls = {
        "hasattr", "torch.manual_seed", "np.random.seed", "random.seed", "torch.set_num_threads",
        "torch.set_default_dtype", "pickle.load", "pickle.loads", "yaml.load", "eval", "exec",
    }  # fmt: skip
    allowed = {"random.seed": {"build.py"}, "torch.set_num_threads": {"threads.py"}}
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


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_special_case_for_a_shipped_sampler(path):
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Compare):
            literals = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
            assert not {"prose", "tbg", "md", "remd", "verse"} & {v for v in literals if isinstance(v, str)}


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
    bases: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases]
    open_for_subclassing = {"Observer", "Strict", "BgbenchError", "Exception", "SamplerLaws"}
    for name, parents in bases.items():
        for parent in parents:
            if parent in bases and parent not in open_for_subclassing and name != "HasAtoms":
                assert parent.startswith(("Abstract", "_Abstract")), f"{name} derives from {parent}"
