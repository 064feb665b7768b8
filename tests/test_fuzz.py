"""No input of a user ends in a traceback: the command line answers in one line and exits with 0, 1 or 2.

The inputs are the same at every call, few by default. `BGBENCH_FUZZ=5000 pytest tests/test_fuzz.py` tries so
many for each test, others at each call; hypothesis prints how to make a failure again.
"""

import copy
import io
import json
import os
import shutil
import string
import tempfile
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bgbench
from bgbench.cli.main import app, guarded
from bgbench.core.errors import BgbenchError
from bgbench.references.store import evaluations_of, read_atoms, read_energies, read_frames

SIZE = int(os.environ.get("BGBENCH_FUZZ", "0"))


def sized(default):
    """Settings of a test of `default` inputs, or as many as BGBENCH_FUZZ says."""
    return settings(
        max_examples=SIZE or default,
        derandomize=not SIZE,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def at_home(folder):
    """A block in which the working folder is `folder`, so that default outputs are made there."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def answer(*words):
    """What the command line answers: exit code and standard error. Anything raised is a traceback."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        # Warnings of libraries about odd numbers are no tracebacks.
        warnings.simplefilter("ignore")
        code = guarded(lambda **options: app([str(word) for word in words], **options))
    return code, err.getvalue()


def refuse_tracebacks(*words):
    """Fail unless the command ends well, or in lines that begin with the program's name."""
    code, err = answer(*words)
    assert code in (0, 1, 2), f"{words}: exit code {code}"
    assert "Traceback" not in err, err
    if code == 2 and err:  # a group of commands without a command prints its help
        assert err.startswith("bgbench: "), f"{words}: {err!r}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, made_up):
    """A small finished run of an analytic system, and one of a peptide, each with a stored curve."""
    folder = tmp_path_factory.mktemp("runs")
    suite = folder / "tiny@1.yaml"
    suite.write_text('systems: ["analytic:harmonic"]\nenergy: analytic\nbudget: 60\nseeds: 2\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BGBENCH_REFERENCES", str(made_up))
        for name, choices in (
            ("analytic", {"suite": suite, "estimator": "snis"}),
            ("peptide", {"only": ["AA"], "budget": 40, "seeds": 1}),
        ):
            run = folder / name
            bgbench.run("prior", out=run, workers=0, tracking_uri="none", **choices)
            answer("curve", run, "--figure", folder / "curve.png")
    return folder


def commands_on(folder):
    """Commands that read a run folder."""
    figure = folder.parent / "figure.png"
    return [
        ("show", folder),
        ("show", folder, "--json"),
        ("compare", folder, "--figure", figure),
        ("curve", folder, "--figure", figure),
        ("report", folder, "--out", folder.parent / "report.html"),
        ("replay", folder),
        ("verify", folder),
        ("track", folder),
        ("run", "prior", "--out", folder, "--resume", "--workers", "0", "--tracking-uri", "none"),
    ]


SCRAPS = [b"", b"{", b"null", b"[]", b"{}", b"[{}]", b"1", b'"text"', b"NaN", b"\xff\xfe\x00", b"\x00" * 40]
VALUES = [None, "text", -1, 1e300, True, [], [None], {}, {"a": []}]


def archive(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


ARCHIVES = [
    archive(),
    archive(x=np.zeros((3, 2))),
    archive(x=np.zeros((2, 1, 3)), u=np.zeros(3), log_w=np.zeros(2)),
    archive(x=np.array([{}], dtype=object)),
    archive(atoms=np.array(["0:ALA:N"]), energies=np.zeros(1), scale=np.zeros(3)),
]


@st.composite
def damages(draw, content, name):
    """The content of a file, truncated, emptied or replaced; of JSON, with one value replaced or removed."""
    kinds = ["cut", "replaced"]
    kinds += ["value"] if name.endswith(".json") else ["archive", "flipped"] if name.endswith(".npz") else []
    kind = draw(st.sampled_from(kinds))
    if kind == "cut":
        return content[: draw(st.integers(0, max(0, len(content) - 1)))]
    if kind == "replaced":
        return draw(st.sampled_from(SCRAPS) | st.binary(max_size=200))
    if kind == "archive":
        return draw(st.sampled_from(ARCHIVES))
    if kind == "flipped":
        place = draw(st.integers(0, len(content) - 1))
        return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
    return draw(changed(json.loads(content)))


@st.composite
def changed(draw, table):
    """JSON with one value, at any depth, replaced or removed."""
    table = copy.deepcopy(table)
    at, (*path, last) = table, draw(st.sampled_from(sorted(paths_in(table), key=str)))
    for key in path:
        at = at[key]
    if draw(st.booleans()):
        at[last] = draw(st.sampled_from(VALUES))
    else:
        del at[last]
    return json.dumps(table).encode()


def paths_in(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths_in(item, (*path, key))


@sized(30)
@given(data=st.data())
def test_a_damaged_file_of_a_run_is_no_traceback(runs, made_up, data):
    run = runs / data.draw(st.sampled_from(["analytic", "peptide"]))
    files = sorted(
        path.relative_to(run) for path in run.rglob("*") if path.is_file() and path.suffix != ".png"
    )
    file = data.draw(st.sampled_from(files))
    content = data.draw(damages((run / file).read_bytes(), file.name))
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BGBENCH_REFERENCES", str(made_up))
        folder = Path(home) / "run"
        shutil.copytree(run, folder)
        (folder / file).write_bytes(content)
        with at_home(home):
            refuse_tracebacks(*data.draw(st.sampled_from(commands_on(folder))))


@sized(15)
@given(data=st.data())
def test_a_damaged_reference_or_training_file_is_no_traceback(runs, made_up, data):
    file = data.draw(st.sampled_from(sorted(path.name for path in made_up.iterdir())))
    content = data.draw(damages((made_up / file).read_bytes(), file))
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        folder = Path(home) / "references"
        shutil.copytree(made_up, folder)
        (folder / file).write_bytes(content)
        patch.setenv("BGBENCH_REFERENCES", str(folder))
        name = file.partition(".")[0]
        commands = [
            ("data", "verify", folder),
            ("data", "certify", name),
            ("data", "compare", name),
            # Planned and then refused, since the folder holds a run: nothing is computed.
            ("run", "prior", "--only", "AA", "--budget", "5", "--workers", "0", "--out", runs / "peptide"),
        ]
        with at_home(home):
            refuse_tracebacks(*data.draw(st.sampled_from(commands)))
        for read in (read_frames, read_energies, read_atoms, evaluations_of):
            with suppress(BgbenchError):  # what trainers read: the same files, through the same door
                read(folder / f"{name}.npz")


FIELDS = (
    "systems", "forcefield",
    "temperature", "energy", "protocol", "budget", "seeds", "name", "version", "more",
)  # fmt: skip
ODD = st.sampled_from(
    [
        "AA",
        "AX",
        "",
        "analytic:harmonic",
        "analytic:none",
        "openmm",
        "bgbench@1",
        "no.xml",
        "${a}",
        "${oc.env:X}",
    ]
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=True) | ODD,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(ODD, inner, max_size=2),
    max_leaves=3,
)
FORCEFIELDS = st.fixed_dictionaries(
    {},
    optional={
        "name": ODD,
        "files": st.lists(ODD, max_size=2) | ODD,
        "nonbonded_method": ODD,
        "cutoff": st.floats(),
        "constraints": ODD,
    },
)
SUITES = st.fixed_dictionaries(
    {"systems": st.lists(ODD, max_size=2) | ANY},
    optional={**dict.fromkeys(FIELDS[2:], ANY), "forcefield": FORCEFIELDS | ANY},
)
NAMES = st.sampled_from(["odd@1.yaml", "odd.yaml", "odd@0.yaml", "odd@1.yml", "@1.yaml"])


@sized(40)
@given(
    text=SUITES.map(json.dumps) | st.text(alphabet=string.printable, max_size=60) | st.binary(max_size=40),
    name=NAMES,
)
def test_an_odd_suite_is_no_traceback(runs, made_up, text, name):
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BGBENCH_REFERENCES", str(made_up))
        path = Path(home) / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with at_home(home):
            run = ("run", "prior", "--suite", path, "--workers", "0", "--out", runs / "peptide")
            refuse_tracebacks(*run, "--budget", "5", "--seeds", "1")


COMMANDS = [
    ("run",), ("run", "prior"), ("run", "prior", "--resume"), ("list",), ("show",), ("compare",), ("curve",),
    ("report",), ("replay",), ("verify",), ("track",), ("audit",), ("audit", "prior"), ("weights",),
    ("weights", "import"), ("weights", "import", "prose"), ("train", "prior"), ("data",), ("data", "verify"),
    ("data", "certify"), ("data", "compare"), ("data", "fetch"), ("data", "fetch", "many-peptides-md"),
    ("data", "simulate", "--frames", "0"), ("data", "weigh", "prior", "--draws", "0"), ("leaderboard",),
    ("leaderboard", "submit"), ("leaderboard", "validate"), ("leaderboard", "accept"),
    ("leaderboard", "build"), ("leaderboard", "withdraw"), ("leaderboard", "reproduce"), ("doctor",), (),
]  # fmt: skip
OPTIONS = [
    "--suite", "--estimator", "--protocol", "--budget", "--seeds", "--first-seed", "--only", "--set", "--out",
    "--tracking-uri", "--threads", "--cluster", "--timeout", "--memory", "--metric", "--figure", "--json",
    "--quiet", "--engine", "--temperature", "--step", "--ns", "--in", "--with", "--from", "--length",
    "--count", "--cover", "--least", "--seed", "--system", "--config", "--board", "--arrays", "--against",
    "--why", "--to", "--author", "--name", "--run", "--pin", "--nonsense", "--help", "--version", "-x",
]  # fmt: skip
WORDS = [
    "", "-1", "0", "nan", "inf", "-inf", "1e400", "x", "é", "AX", "x=y", "=", "width=-1", "width=", "a.b=c",
    "estimator.cut=none", "cluster.x=1", "temperature=-3", "temperature=nan", "no/such/place", "/dev/full",
    "/dev/null", "/proc/x/y", ".", "file", "file/x", "odd@1.yaml", "dipeptides-mini", "dipeptides-mini@9",
    "snis", "mcmc", "bgbench@1", "paper@1", "ess", "samplers", "http://127.0.0.1:1", "slurm",
]  # fmt: skip


@sized(80)
@given(
    command=st.sampled_from(COMMANDS),
    words=st.lists(st.sampled_from(OPTIONS) | st.sampled_from(WORDS), max_size=4),
)
def test_odd_arguments_are_no_traceback(runs, made_up, command, words):
    """`run` is given a folder that holds a run: it plans, and then refuses to compute."""
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BGBENCH_REFERENCES", str(made_up))
        Path(home, "file").write_text("text")
        end = ("--workers", "0", "--out", runs / "peptide") if command[:1] == ("run",) else ()
        with at_home(home):
            refuse_tracebacks(*command, *words, *end)
