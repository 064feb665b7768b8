"""`bgbench new`: a package of each kind installs, keeps the laws of its kind, and passes its own tests."""

import importlib.util
import os
import subprocess
import sys
import tomllib

import pytest

from bgbench.authoring.skeletons import KINDS, write_skeleton
from bgbench.core.errors import BgbenchError
from bgbench.core.plugins import plugins
from bgbench.testing import LAW_BOOKS, check

PIP = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A package of each kind, found in this process as if it were installed."""
    place = tmp_path_factory.mktemp("new")
    folders = {kind: write_skeleton(kind, f"my-{kind}", place) for kind in KINDS}
    with pytest.MonkeyPatch.context() as patch:
        for folder in folders.values():
            project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
            info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
            )
            ((name, package),) = project["entry-points"]["bgbench"].items()
            (info / "entry_points.txt").write_text(f"[bgbench]\n{name} = {package}\n")
            patch.syspath_prepend(folder)
        plugins.cache_clear()
        yield folders
    plugins.cache_clear()


@pytest.mark.parametrize("kind", KINDS)
def test_every_package_keeps_its_laws_and_its_tests_ask_for_them(kind, installed):
    name = f"my-{kind}@1" if kind in ("suite", "protocol") else f"my-{kind}"
    report = check(name, kind=KINDS[kind], fresh_process=False)
    assert report.failed == []
    assert report.passed
    assert report.distribution == f"my-{kind}"
    [file] = (installed[kind] / "tests").glob("test_*.py")
    spec = importlib.util.spec_from_file_location(f"own_tests_of_{kind}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    classes = [value for name, value in vars(module).items() if name.startswith("Test")]
    assert any(issubclass(one, LAW_BOOKS[KINDS[kind]][0]) for one in classes)


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A package of each kind, all installed into one folder: the environment of processes that see them."""
    place = tmp_path_factory.mktemp("new")
    folders = {kind: write_skeleton(kind, f"my-{kind}", place) for kind in KINDS}
    words = [*PIP, "--target", str(place / "site"), *map(str, folders.values())]
    subprocess.run(words, check=True, capture_output=True)
    path = os.pathsep.join(filter(None, [str(place / "site"), os.environ.get("PYTHONPATH", "")]))
    return folders, {**os.environ, "PYTHONPATH": path}


def call(environment, *words, cwd=None):
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False, cwd=cwd
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_every_package_passes_its_own_tests(packages):
    folders, environment = packages
    tests = [str(folder / "tests") for folder in folders.values()]
    words = ("-p", "no:cacheprovider", "-W", "error", "--import-mode=importlib", "-c", os.devnull)
    printed = call(
        environment, "-m", "pytest", "-q", *words, "--rootdir", str(folders["suite"].parent), *tests
    )
    assert "failed" not in printed
    assert "passed" in printed


@pytest.mark.slow
def test_they_run_together_and_in_a_fresh_process(packages, tmp_path):
    _, environment = packages
    out = tmp_path / "run"
    call(
        environment, "-m", "bgbench", "run", "my-sampler", "--suite", "my-suite", "--protocol", "my-protocol",
        "--estimator", "my-estimator", "--only", "AA", "--budget", "50", "--workers", "0", "--out", str(out),
        "--tracking-uri", "none", "--set", "width=0.004", "--set", "estimator.power=0.5",
    )  # fmt: skip
    assert (out / "cells" / "AA-s0.json").is_file()
    script = (
        "from bgbench.authoring.fresh import draw, draw_in_fresh_process\n"
        "words = ('my-sampler', {'width': '0.004'}, 'GG')\n"
        "assert draw(*words).equal(draw_in_fresh_process(*words))\n"
    )
    call(environment, "-c", script, cwd=tmp_path)


@pytest.mark.parametrize(
    ("kind", "name", "complaint"),
    [
        ("samplr", "a", "must be one of sampler, metric"),
        ("metric", "my metric!", "is no name of a plugin"),
        ("metric", "3d", "is no name of a plugin"),
        ("metric", "class", "is no name of a plugin"),
        ("metric", "there", "is there already"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, kind, name, complaint):
    (tmp_path / "there").mkdir()
    with pytest.raises(BgbenchError, match=complaint):
        write_skeleton(kind, name, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_the_command_names_the_next_step(cli, tmp_path):
    code, printed, err = cli("new", "energy", "mine", "--to", tmp_path)
    assert (code, err) == (0, "")
    assert f"next: pip install -e {tmp_path / 'mine'} && bgbench check mine" in printed
