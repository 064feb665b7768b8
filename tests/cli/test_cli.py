"""The command line: the whole chain on small budgets, and one clear line for every mistake."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import bgbench
from bgbench.cli.display import doubts, status_of
from bgbench.core.errors import refuse_other_systems
from bgbench.core.plugins import plugins
from bgbench.evaluation.protocols import protocol_path
from bgbench.runs.runfolder import RunFolder

ROOT = Path(__file__).parents[2]


@pytest.fixture
def suite(tmp_path, own_references):
    path = tmp_path / "tiny@1.yaml"
    path.write_text("systems: [AA, GS]\nenergy: batched\nbudget: 60\nseeds: 1\n")
    return str(path)


UNTRACKED = ("--workers", 0, "--tracking-uri", "none")
"""MLflow's process takes longer than a small run."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, made_up):
    """Runs of AA and GS by `reference` and `prior` with their figures: not to be changed, but copied."""
    folder = tmp_path_factory.mktemp("finished")
    suite = folder / "tiny@1.yaml"
    suite.write_text("systems: [AA, GS]\nenergy: batched\nbudget: 60\nseeds: 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BGBENCH_REFERENCES", str(made_up))
        for name in ("reference", "prior"):
            bgbench.run(name, suite=str(suite), out=folder / name, workers=0, tracking_uri="none")
    return folder


def test_run_show_and_track(cli, suite, tmp_path):
    out = tmp_path / "run"
    code, printed, _ = cli("run", "prior", "--suite", suite, "--out", out, "--workers", 0)
    assert code == 0
    assert "AA" in printed
    assert "torus_w2 (rad) ↓" in printed
    code, printed, _ = cli("show", out, "--json")
    cells = json.loads(printed)["cells"]
    assert [cell["system"] for cell in cells] == ["AA", "GS"]
    for cell in cells:
        assert cell["status"] == "ok"
        assert cell["budget"] == {"limit": 60, "used": 60}
        assert cell["metrics"]["validity"] is not None
    assert (out / "figures" / "AA-s0-ramachandran.png").stat().st_size > 5000
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{out}/mlflow.db")
    experiment = client.get_experiment_by_name("bgbench")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 3
    nested = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(nested) == 2
    assert "energy_w2" in nested[0].data.metrics
    assert cli("track", out)[0] == 0
    assert len(client.search_runs([experiment.experiment_id])) == 3


@pytest.mark.usefixtures("own_references")
def test_report_is_one_page_that_asks_nobody(cli, finished, tmp_path):
    page = tmp_path / "report.html"
    assert cli("report", finished / "reference", "--out", page)[0] == 0
    text = page.read_text()
    assert text.count("data:image/png;base64") == 7
    assert "http://" not in text
    assert "https://" not in text
    assert "<script" not in text


@pytest.mark.usefixtures("own_references")
def test_a_report_of_like_runs_ranks_them_together(cli, finished, tmp_path):
    runs, page = [finished / "reference", finished / "prior"], tmp_path / "report.html"
    assert cli("report", *runs, "--out", page)[0] == 0
    text = page.read_text()
    assert "error against evaluations" in text
    first, second = (
        text.index(f"<td>{name}</td>", text.index("torus_w2")) for name in ("reference", "prior")
    )
    assert first < second


def test_curve_and_audit_print_and_draw(cli, suite, tmp_path):
    out, figure = tmp_path / "run", tmp_path / "curves.png"
    words = ("--suite", suite, "--only", "AA", "--budget", 120, "--checkpoints", "--quiet", *UNTRACKED)
    assert cli("run", "prior", "--out", out, *words)[0] == 0
    assert (out / "figures" / "curves.png").stat().st_size > 5000
    code, printed, _ = cli("curve", out, "--figure", figure)
    assert code == 0
    assert "torus_w2 (rad) ↓" in printed
    assert figure.stat().st_size > 5000
    code, printed, _ = cli("audit", "prior")
    assert code == 0
    assert "normalisation" in printed
    assert "FAILED" not in printed


@pytest.mark.usefixtures("without_figures")
def test_records_hold_audit_forward_view_and_skills(suite, finished, tmp_path):
    record = RunFolder.open(finished / "prior").records()[0]
    assert record.diagnostics["density"]["verified"]
    assert record.diagnostics["forward"]["ess_forward"] <= 1
    assert set(record.skills) <= set(record.floors)
    walk = bgbench.run(
        "remd", suite=suite, out=tmp_path / "w", workers=0, tracking_uri="none", only=("AA",),
        options={"rungs": "2"},
    )  # fmt: skip
    assert "density" not in walk.records[0].diagnostics


@pytest.mark.usefixtures("without_figures")
def test_replay_finds_an_edited_record_and_edited_arrays(cli, suite, tmp_path):
    out = tmp_path / "run"
    assert cli("run", "remd", "--suite", suite, "--out", out, "--quiet", "--budget", 600, *UNTRACKED)[0] == 0
    code, printed, _ = cli("replay", out)
    assert code == 0
    assert "2 records" in printed
    path = out / "cells" / "AA-s0.json"
    record = json.loads(path.read_text())
    record["metrics"]["torus_w2"] += 0.01
    path.write_text(json.dumps(record))
    code, printed, _ = cli("replay", out)
    assert code == 1
    assert "AA-s0: torus_w2" in printed
    with (out / "arrays" / "AA-s0.npz").open("ab") as stream:
        stream.write(b"x")
    code, _, err = cli("replay", out)
    assert code == 2
    assert "sha256" in err


@pytest.mark.usefixtures("own_references")
def test_a_run_without_its_records_is_not_as_it_was_written(cli, finished, tmp_path):
    out = shutil.copytree(finished / "prior", tmp_path / "run")
    (out / "cells" / "GS-s0.json").unlink()
    code, printed, _ = cli("verify", out)
    assert (code, "1 of 2 cells have no record yet; --resume runs them" in printed) == (0, True)
    shutil.rmtree(out / "cells")
    for gone in ("missing", "a file"):
        if gone == "a file":
            (out / "cells").write_text("hi")
        code, printed, _ = cli("verify", out)
        assert (code, "holds no record of its 2 cells" in printed) == (1, True)
        code, _, err = cli("replay", out)
        assert (code, "holds no record of its 2 cells" in err) == (2, True)


@pytest.mark.usefixtures("without_figures")
def test_a_protocol_that_is_not_the_planned_one_is_one_line(cli, suite, tmp_path):
    out, own = tmp_path / "run", tmp_path / "mine@1.yaml"
    own.write_text(protocol_path("bgbench@1").read_text().replace("n_samples: 10000", "n_samples: 30"))
    words = ("--protocol", own, "--only", "AA", "--budget", 20, "--quiet", *UNTRACKED)
    assert cli("run", "prior", "--suite", suite, "--out", out, *words)[0] == 0
    assert cli("verify", out)[0] == 0
    copy = out / "protocols" / "mine@1.yaml"
    copy.write_text(copy.read_text() + "# edited\n")
    for command, expected in (("verify", 1), ("replay", 2)):
        code, printed, err = cli(command, out)
        assert code == expected
        (line,) = (printed + err).splitlines()
        assert "mine@1.yaml is not the planned protocol: it does not match the sha256 in run.json" in line
    copy.unlink()
    code, printed, _ = cli("verify", out)
    assert (code, "mine@1" in printed) == (1, True)


def test_cells_run_in_a_worker_process_and_resume(cli, suite, finished, tmp_path):
    out = shutil.copytree(finished / "reference", tmp_path / "run")
    before = (out / "cells" / "GS-s0.json").read_text()
    (out / "cells" / "GS-s0.json").unlink()
    assert len(json.loads(cli("show", out, "--json")[1])["missing"]) == 1
    code, _, err = cli("run", "reference", "--suite", suite, "--out", out)
    assert code == 2
    assert "--resume" in err
    assert cli("run", "reference", "--suite", suite, "--out", out, "--resume", "--quiet")[0] == 0
    assert json.loads(cli("show", out, "--json")[1])["missing"] == []
    after = json.loads((out / "cells" / "GS-s0.json").read_text())
    assert after["metrics"] == json.loads(before)["metrics"]


@pytest.mark.usefixtures("without_figures")
def test_the_same_seed_replays_to_the_bit(suite, tmp_path):
    first, again = (
        bgbench.run(
            "remd", suite=suite, out=tmp_path / name, only=("AA",), budget=400, workers=0, tracking_uri="none"
        ).records
        for name in "ab"
    )
    for one, two in zip(first, again, strict=True):
        assert one.status == "ok"
        assert one.metrics == two.metrics
        assert one.id == two.id


def test_a_cell_that_fails_is_a_row_and_exit_code_1(cli, suite, tmp_path, monkeypatch):
    from bgbench_controls import Prior

    def broken(self, task, n_samples):
        raise RuntimeError("the sampler broke" if task.system.name == "AA" else "it broke again")

    monkeypatch.setattr(Prior, "sample", broken)
    code, printed, _ = cli("run", "prior", "--suite", suite, "--out", tmp_path / "r", *UNTRACKED)
    assert code == 1
    assert "crash" in printed
    record = json.loads((tmp_path / "r" / "cells" / "AA-s0.json").read_text())
    assert record["status"] == "crash"
    assert "the sampler broke" in record["error"]
    assert (tmp_path / "r" / "cells" / "AA-s0.traceback.txt").exists()


@pytest.mark.parametrize(("share", "status"), [(3, "ok"), (1, "nonfinite")])
def test_nan_positions_lose_their_weight_and_never_end_a_run(suite, tmp_path, monkeypatch, share, status):
    from bgbench_controls import Prior

    draw = Prior.draw

    def broken(self, task, n_samples):
        proposal = draw(self, task, n_samples)
        proposal.x[::share] = float("nan")
        return proposal

    monkeypatch.setattr(Prior, "draw", broken)
    result = bgbench.run(
        "prior",
        suite=suite,
        only=("AA",),
        out=tmp_path / "r",
        workers=0,
        estimator="none",
        tracking_uri="none",
    )
    for record in result:
        assert record.status == status
        if status == "ok":
            assert record.diagnostics["nonfinite_positions"] == 20
            assert record.metrics["torus_w2"] is not None


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("run", "nosuch"), "unknown sampler 'nosuch'"),
        (("run", "prior", "--suite", "nosuch"), "unknown suite 'nosuch'"),
        (("run", "prior", "--budget", "0"), "got 0"),
        (("run", "prior", "--budget", "-5"), "got -5"),
        (("run", "prior", "--seeds", "0"), "got 0"),
        (("run", "prior", "--budget", "many"), "--budget"),
        (("run", "prior", "--out", "/proc/nowhere"), "cannot write"),
        (("run", "prior", "--suite", "octapeptides30"), "no reference for ANKSMIEA, CGSWHKQR, CLCCGQWN"),
        (("run", "prior", "--protocol", "mine@1"), "unknown protocol"),
        (("run", "prior", "--estimator", "magic"), "unknown estimator"),
        (("run", "prior", "--set", "width"), "write KEY=VALUE"),
        (("run", "prior", "--set", "nosuch=1"), "prior has no option 'nosuch'; its options are width"),
        (("run", "prior", "--set", "temperature=warm"), "'warm' is not a temperature in K"),
        (("run", "prior", "--set", "cluster.queue=long"), "no effect without --cluster"),
        (("run", "prior", "--resume"), "--resume needs to know which run to resume"),
        (("run", "prior", "--set", "temperature=-3"), "-3"),
        (("run", "prior", "--only", "YY"), "not in dipeptides-mini@1"),
        (("run", "prose", "--set", "weights=/nowhere/w.safetensors"), "holds no Prose weights"),
        (("data", "simulate", "AXB"), "'X'"),
        (("data", "simulate", "GS", "--engine", "magic"), "known: batched, openmm, softened"),
        (("data", "simulate"), "name suites or sequences"),
        (("data", "simulate", "AA", "--train"), "never to be trained on"),
        (("data", "verify", "/nowhere"), "holds no reference"),
        (("show", "/nowhere"), "holds no run"),
        (("curve", "/nowhere"), "holds no run"),
        (("audit", "md"), "has no density to audit"),
        (("audit", "nosuch"), "unknown sampler 'nosuch'"),
        (("audit", "prior", "--system", "AXB"), "'X'"),
        (("list", "everything"), "cannot list"),
        (("train", "md"), "nothing to train"),
        (("train", "prose", "--set", "data=/nowhere"), "/nowhere does not exist"),
        (("train", "prose", "--set", "stepz=3"), "train has no option 'stepz'; did you mean 'steps'?"),
        (("nosuch",), "nosuch"),
        (("data", "fetch", "nosuch", "--suite", "octapeptides30"), "unknown data set 'nosuch'"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(cli, tmp_path, monkeypatch, words, complaint):
    monkeypatch.chdir(tmp_path)
    code, _, err = cli(*words)
    assert code == 2
    assert complaint in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


def test_a_peptide_with_a_strange_residue_in_a_suite_is_one_line(cli, tmp_path):
    path = tmp_path / "odd@1.yaml"
    path.write_text("systems: [AXB]\n")
    code, _, err = cli("run", "prior", "--suite", path, "--out", tmp_path / "r")
    assert code == 2
    assert "'X'" in err
    path.write_text("systems: [AA]\nbudgets: 3\n")
    code, _, err = cli("run", "prior", "--suite", path, "--out", tmp_path / "r")
    assert code == 2
    assert "unknown field 'budgets'; did you mean 'budget'?" in err


@pytest.mark.parametrize(
    "kind", ["samplers", "suites", "metrics", "estimators", "energies", "trackers", "plugins"]
)
def test_lists_name_distribution_and_version(cli, kind):
    code, printed, _ = cli("list", kind)
    assert code == 0
    assert "bgbench" in printed
    assert "0.1.0" in printed


def test_what_to_cite_is_printed_for_every_sampler(cli, monkeypatch):
    """In brackets, which are no markup of the terminal's."""
    monkeypatch.setattr("bgbench.cli.main.out._width", 400)  # COLUMNS is read once, at import
    _, printed, _ = cli("list", "samplers")
    for entry in (plugins().samplers[name] for name in ("prose", "tbg", "verse", "md", "remd")):
        assert f"[{entry.citation}]" in printed


@pytest.mark.usefixtures("without_figures")
def test_a_path_with_brackets_is_printed_whole(cli, analytic_suite, tmp_path):
    path = tmp_path / "[bold]runs[x]"
    words = ("--suite", analytic_suite, "--only", "analytic:harmonic", *UNTRACKED)
    code, printed, _ = cli("run", "prior", *words, "--out", path)
    assert code == 0
    assert f"records, arrays and figures: {path}" in printed


def test_doctor_tells_versions_and_platforms(cli):
    code, printed, _ = cli("doctor")
    assert code == 0
    assert "OpenMM platforms: Reference, CPU" in printed


def test_missing_references_are_all_named_and_what_runs_without(cli, tmp_path):
    suite = tmp_path / "some@1.yaml"
    suite.write_text("systems: [YY, AA, GGY]\n")
    code, _, message = cli("run", "prior", "--suite", suite)
    assert code == 2
    assert "no reference for YY, GGY at 310 K" in message
    assert "data simulate YY GGY --engine softened" in message
    assert "--only AA" in message


@pytest.mark.slow
def test_data_verify_checks_the_packaged_references(cli):
    code, printed, _ = cli("data", "verify")
    assert code == 0
    assert all(name in printed for name in ("AA", "DI", "HM", "WS"))


HEAVY = ("torch", "numba", "openmm", "mlflow", "scipy", "numpy", "mdtraj", "distributed", "matplotlib")


@pytest.mark.parametrize("words", [(), ("run",), ("data", "simulate"), ("leaderboard",)])
def test_help_imports_nothing_heavy(words):
    script = (
        "import sys\nfrom bgbench.cli.main import app, guarded\n"
        f"code = guarded(lambda **options: app([*{words!r}, '--help'], **options))\n"
        f"print(code, sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 []"


def test_no_module_of_the_command_line_imports_anything_heavy():
    script = (
        "import importlib, pkgutil, sys, bgbench.cli\n"
        "names = [module.name for module in pkgutil.iter_modules(bgbench.cli.__path__)]\n"
        "for name in names: importlib.import_module(f'bgbench.cli.{name}')\n"
        f"print(len(names) > 5, sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True []"


def test_every_command_and_every_option_has_a_help_text():
    import click
    import typer.main

    from bgbench.cli.main import app

    def commands(command, path):
        if isinstance(command, click.Group):
            for name, below in command.commands.items():
                yield from commands(below, f"{path} {name}")
        else:
            yield path, command

    for path, command in commands(typer.main.get_command(app), "bgbench"):
        assert command.help, path
        assert command.help.split("\n\n")[0].rstrip().endswith("."), path
        for parameter in command.params:
            assert getattr(parameter, "help", ""), f"{path} {parameter.name}"


def test_version_and_bgbench_alone(cli):
    code, printed, err = cli("--version")
    assert (code, err) == (0, "")
    assert printed.startswith("bgbench 0.")
    code, printed, err = cli()
    assert (code, err) == (0, "")
    for command in ("bgbench score", "bgbench run", "bgbench new", "bgbench data simulate"):
        assert f"  {command} " in printed


def test_a_terminal_without_arrows_shows_the_table(finished):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "bgbench", "show", str(finished / "prior")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "torus_w2 (rad) ?" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_standard_output_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bgbench", "list", "suites"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("bgbench: cannot print: No space left on device")
    assert done.stderr.count("\n") == 1


def test_a_closed_pipe_ends_the_output_in_silence():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "bgbench", "list", "suites"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_quiet_keeps_what_went_wrong(cli, suite, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    words = ["run", "prior", "--suite", suite, "--only", "AA", "--budget", 20, "--workers", 0, "--quiet"]
    code, printed, complaint = cli(*words, "--out", tmp_path / "r", "--tracking-uri", "http://127.0.0.1:9")
    assert (code, printed) == (0, "")
    assert "tracking to http://127.0.0.1:9 failed" in complaint


def test_a_run_shows_what_its_columns_mean_and_why_a_cell_failed(cli, suite, tmp_path, monkeypatch):
    from bgbench_controls import Prior

    def broken(self, task, n_samples):
        raise RuntimeError("the sampler broke")

    monkeypatch.setattr(Prior, "sample", broken)
    words = ["--suite", suite, "--only", "AA", "--workers", 0, "--tracking-uri", "none", "--quiet"]
    assert cli("run", "prior", "--out", tmp_path / "r", *words)[0] == 1
    code, printed, _ = cli("show", tmp_path / "r")
    assert code == 0
    heads = " ".join(printed.splitlines()[1].split())
    assert heads.startswith("system seed status")
    assert heads.endswith("evaluations reference grade")
    assert "AA-s0: crash: RuntimeError: the sampler broke" in printed


def test_suites_are_listed_with_what_they_hold(cli, monkeypatch):
    monkeypatch.setattr("bgbench.cli.main.out._width", 400)
    _, printed, _ = cli("list", "suites")
    (line,) = [line for line in printed.splitlines() if line.startswith("dipeptides-mini@1")]
    assert "4 systems of 2 residues, " in line
    assert " evaluations, " in line
    assert "310 K" in line


def test_doctor_calls_nothing_optional_that_bgbench_needs(cli, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    _, printed, _ = cli("doctor")
    (line,) = [line for line in printed.splitlines() if line.startswith("optional")]
    assert "dask_jobqueue (for bgbench run --cluster slurm)" in line
    assert "distributed" not in line


def test_another_operating_system_is_refused_in_one_line(cli, monkeypatch):
    monkeypatch.setattr("bgbench.cli.main.refuse_other_systems", lambda: refuse_other_systems("nt"))
    assert cli("list", "samplers") == (
        2,
        "",
        "bgbench: bgbench runs on Linux and macOS only; on Windows, use it inside WSL\n",
    )


def test_a_density_that_is_not_verified_is_marked_where_people_look():
    """The audit failed in one cell; the other has a warning, and a diagnostic that failed."""
    check = {"name": "round trip", "value": 0.2, "limit": 0.001, "note": "of 32 draws"}
    cells = [
        {"density": {"verified": False, "checks": {"round trip": check}}},
        {"warnings": ["extrapolated"], "failed_diagnostics": {"forward": "RuntimeError: no"}},
    ]
    records = [
        SimpleNamespace(
            status="ok", diagnostics=cell, card={}, cell=SimpleNamespace(name=f"AA-s{k}", sampler="mine")
        )
        for k, cell in enumerate(cells)
    ]
    assert [status_of(record) for record in records] == ["ok, not verified", "ok"]
    assert doubts(records) == [
        "AA-s0: density not verified (round trip: 0.2, the limit is 0.001): do not trust the weights; see "
        "`bgbench audit mine`",
        "AA-s1: extrapolated",
        "AA-s1: the diagnostic 'forward' failed: RuntimeError: no",
    ]


def test_a_run_of_nothing_says_what_to_name(cli):
    code, printed, complaint = cli("run")
    assert (code, printed) == (2, "")
    assert complaint.startswith("bgbench: name a sampler (see `bgbench list samplers`), or a file that does")


@pytest.mark.parametrize("command", ["list", "options"])
def test_a_missing_word_says_where_to_read_what_it_can_be(command, cli):
    code, printed, complaint = cli(command)
    assert (code, printed) == (2, "")
    assert complaint.startswith("bgbench: Missing argument '")
    assert complaint.endswith(f"{command} --help`\n")
