"""`bgbench data verify`: sound references pass wherever they lie, and every kind of damage is named."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from bgbench import BgbenchError, peptide
from bgbench.core.files import sha256_file
from bgbench.core.plugins import build_reference, build_system, plugins
from bgbench.core.resources import data_path
from bgbench.core.types import TicaModel
from bgbench.evaluation.suites import load_suite
from bgbench.references.certificates import certificate_path, read_certificate, write_certificate
from bgbench.references.providers import find_reference
from bgbench.references.soundness import (
    Unsound,
    refuse_other_bonds,
    refuse_other_counts,
    refuse_other_scale,
    refuse_unsound,
    system_of,
    verify_reference,
)
from bgbench.references.store import read_reference
from bgbench.references.sums import read_sums, refuse_unlisted
from bgbench.systems.analytic import KINDS


@pytest.fixture
def reference_file(tmp_path):
    """A copy of a packaged reference: PG, gold, 2,000 frames of 16 replicas, 42 TICA features."""
    return shutil.copy(data_path("references", "PG.npz"), tmp_path / "PG.npz")


def damage(path, arrays=(), **entries):
    """Give a file other arrays (None: none) and its certificate other entries."""
    with np.load(path) as stored:
        content = {name: stored[name] for name in stored.files}
    certificate = {**json.loads(str(content["certificate"])), **entries}
    content |= {"certificate": np.array(json.dumps(certificate)), **dict(arrays)}
    np.savez(path, **{name: values for name, values in content.items() if values is not None})


def energies_of(path):
    with np.load(path) as stored:
        return stored["energies"]


def test_a_sound_reference_passes_with_all_its_energies(reference_file):
    reference, worst = verify_reference(reference_file)
    assert reference.n_samples == 2000
    assert 0 < worst < 0.4
    damage(reference_file)
    assert verify_reference(reference_file).energy_error == worst


ENERGIES = {
    "all NaN": (lambda u: u * np.nan, "energies are not all finite"),
    "one infinite": (lambda u: np.where(np.arange(len(u)) == 1999, np.inf, u), "energies are not all finite"),
    "the last one off": (lambda u: u + 1000.0 * (np.arange(len(u)) == 1999), "off by up to 1000.* kT"),
    "reversed after 64": (lambda u: np.concatenate([u[:64], u[64:][::-1]]), "energies are off by up to"),
}


@pytest.mark.parametrize("kind", ENERGIES)
def test_energies_are_looked_at_to_the_last_frame(reference_file, kind):
    change, message = ENERGIES[kind]
    damage(reference_file, {"energies": change(energies_of(reference_file))})
    with pytest.raises(BgbenchError, match=message):
        verify_reference(reference_file)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"rhat": {"sin_phi1": 9.0}}, "R̂ of sin_phi1 is 9.0 in its certificate and 1.00"),
        ({"rhat": {"sin_phi1": "low"}}, "R̂ of sin_phi1 is low in its certificate"),
        ({"rhat": {"sin_phi7": 1.0}}, "R̂ of sin_phi7 is 1.0 in its certificate and absent by its frames"),
        ({"rhat": [1.0]}, "no table of R̂"),
        ({"grade": "platinum"}, "grade 'platinum' is not one of gold, silver, bronze"),
        ({"grade": "silver"}, "grade silver is gold by its frames"),
        ({"frames": 99_999}, "holds 2000 frames, its certificate says 99999"),
        ({"frames": "all"}, "its certificate says all"),
        ({"replicas": 17}, "frames of 16 replicas, its certificate says 17"),
        ({"replicas": 8}, "numbered up to 15, its certificate says 8"),
        ({"replicas": "many"}, "its certificate says many"),
        ({"temperatures": ["hot"]}, r"temperatures \['hot'\], whose first is not a temperature in K"),
        ({"temperatures": 310.0}, "temperatures 310.0, whose first is not"),
        ({"temperatures": [500.0]}, "simulated at 500 K, and lies where .* 310 K; .* into a folder 500K"),
    ],
)  # fmt: skip
def test_a_certificate_says_what_the_frames_say(reference_file, entries, message):
    damage(reference_file, **entries)
    with pytest.raises(BgbenchError, match=message):
        verify_reference(reference_file)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"tica_mean": np.zeros(5), "tica_projection": np.zeros((5, 2))}, r"TICA model of shapes \(5,\)"),
        ({"tica_mean": np.full(42, np.nan)}, "TICA means are not all finite"),
        ({"tica_projection": np.full((42, 4), np.nan)}, "TICA projections are not all finite"),
        ({"tica_mean": None, "tica_projection": None}, "no TICA model, and R̂ of TICs"),
        ({"scale": np.float64("nan")}, "positions are not all finite"),
        ({"replica": np.zeros(2000, np.int16)}, "frames of 1 replicas, its certificate says 16"),
        ({"replica": np.arange(2000) // 125}, "R̂ of .* by its frames"),
        ({"replica": np.minimum(np.arange(2000), 15)}, "a replica has 1 frames, 4 are needed"),
        ({"certificate": np.array("[1, 2]")}, "not a table of names and values"),
        ({"certificate": np.array("{")}, "not readable as a reference"),
    ],
)  # fmt: skip
def test_damaged_arrays_are_named(reference_file, arrays, message):
    damage(reference_file, arrays)
    with pytest.raises(BgbenchError, match=message):
        verify_reference(reference_file)


def test_without_tica_nothing_is_gold(reference_file):
    rhat = {k: v for k, v in read_certificate(reference_file)["rhat"].items() if not k.startswith("tic")}
    damage(reference_file, {"tica_mean": None, "tica_projection": None}, rhat=rhat)
    with pytest.raises(BgbenchError, match="grade gold is silver by its frames"):
        verify_reference(reference_file)
    damage(reference_file, grade="silver")
    assert verify_reference(reference_file).reference.grade == "silver"


def test_what_was_not_simulated_may_be_called_bronze(reference_file):
    damage(reference_file, grade="bronze")
    with pytest.raises(BgbenchError, match="grade bronze is gold"):
        verify_reference(reference_file)
    damage(reference_file, engine="snis of verse")
    assert verify_reference(reference_file).reference.grade == "bronze"
    damage(reference_file, grade="silver")
    with pytest.raises(BgbenchError, match="grade silver is gold"):
        verify_reference(reference_file)


def test_a_replica_may_be_missing_where_its_frames_were_left_out(reference_file):
    reference = read_reference(reference_file, system_of(reference_file, read_certificate(reference_file)))
    rows = reference.replica != 3
    certificate = {**reference.certificate, "frames": int(rows.sum()), "left_out": {"cis": 125}}
    fewer = replace(
        reference,
        x=reference.x[rows],
        u=reference.u[rows],
        replica=reference.replica[rows],
        certificate=certificate,
    )
    refuse_other_counts(fewer)
    for counted in ({"cis": 100}, None):
        with pytest.raises(Unsound, match="15 replicas"):
            refuse_other_counts(replace(fewer, certificate={**certificate, "left_out": counted}))


def test_broken_bytes_and_other_files_are_refused(reference_file):
    whole = reference_file.read_bytes()
    for place in range(200, len(whole), len(whole) // 40):
        reference_file.write_bytes(whole[:place] + b"\x55" * 60 + whole[place + 60 :])
        with pytest.raises(BgbenchError, match=r"PG\.npz"):
            verify_reference(reference_file)
    with reference_file.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(BgbenchError, match="not readable as a reference"):
        verify_reference(reference_file)


def test_references_in_temperature_folders_are_looked_at(tmp_path, cli):
    hot = tmp_path / "500K"
    hot.mkdir()
    shutil.copy(data_path("checks", "AA-500K.npz"), hot / "AA.npz")
    for folder, name in ((tmp_path, "500K/AA"), (hot, "AA"), (hot / "AA.npz", "AA")):
        code, printed, _ = cli("data", "verify", folder)
        assert (code, printed.partition(" frames, ")[0]) == (0, f"{name}: 4000")
    shutil.move(hot / "AA.npz", tmp_path / "AA.npz")
    code, _, complaint = cli("data", "verify", tmp_path)
    assert code == 2
    assert "simulated at 500 K, and lies where runs look for references of 310 K" in complaint


def test_names_may_say_more_than_the_peptide(cli):
    code, printed, _ = cli("data", "verify", data_path("checks"))
    assert code == 0
    assert {line.partition(":")[0] for line in printed.splitlines()} == {
        path.stem for path in data_path("checks").glob("*.npz")
    }


def test_every_unsound_reference_of_a_folder_is_named(reference_file, tmp_path, cli):
    shutil.copy(reference_file, tmp_path / "AXB.npz")
    shutil.copy(reference_file, tmp_path / "GP.npz")
    damage(reference_file, {"energies": torch.zeros(2000).numpy()})
    shutil.copy(data_path("references", "SS.npz"), tmp_path)
    code, printed, complaint = cli("data", "verify", tmp_path)
    assert code == 2
    assert [line.partition(":")[0] for line in printed.splitlines()] == ["SS"]
    axb, gp, pg = complaint.strip().splitlines()
    assert "not named after a peptide" in axb
    assert "holds other atoms than GP" in gp
    assert "stored energies are off" in pg


def test_a_file_that_is_not_what_the_list_beside_it_says_is_refused(reference_file, tmp_path, cli):
    sums = tmp_path / "SHA256SUMS"
    packaged = data_path("references", "SHA256SUMS").read_text().splitlines(keepends=True)
    (line,) = [line for line in packaged if line.endswith(" PG.npz\n")]
    sums.write_text(line)
    assert cli("data", "verify", tmp_path)[0] == 0
    damage(reference_file)  # stored anew: the same arrays, other bytes
    for place in (tmp_path, reference_file):
        code, _, complaint = cli("data", "verify", place)
        assert code == 2
        assert f"SHA256SUMS beside it says {line[:12]}" in complaint
        assert f"`cd {tmp_path} && sha256sum *.npz > SHA256SUMS`" in complaint


def test_the_list_covers_certificates_too(reference_file, tmp_path, cli):
    """Beside a packaged file, which stays as it is: a list that names both, one that lacks it, a lost one."""
    beside = certificate_path(reference_file)
    write_certificate(reference_file, read_certificate(reference_file))
    sums = tmp_path / "SHA256SUMS"

    def listing(*files):
        return "".join(f"{sha256_file(file)}  {file.name}\n" for file in files)

    sums.write_text(listing(reference_file, beside))
    code, printed, _ = cli("data", "verify", tmp_path)
    assert (code, printed.count("frames")) == (0, 1)
    sums.write_text(listing(reference_file))
    code, _, complaint = cli("data", "verify", tmp_path)
    assert code == 2
    assert "PG.certificate.json is not in SHA256SUMS" in complaint
    assert f"`cd {tmp_path} && sha256sum *.npz *.certificate.json > SHA256SUMS`" in complaint
    sums.write_text(listing(reference_file, beside))
    beside.write_text(beside.read_text().replace("gold", "bronze"))
    code, _, complaint = cli("data", "verify", tmp_path)
    assert code == 2
    assert "PG.certificate.json has sha256" in complaint
    beside.unlink()
    for place in (tmp_path, reference_file):
        code, _, complaint = cli("data", "verify", place)
        assert code == 2
        assert "PG.certificate.json" in complaint


def test_a_certificate_beside_takes_precedence_and_is_checked(reference_file):
    """A wrong one beside a sound packaged file is noticed: it is the one that runs read."""
    write_certificate(reference_file, {**read_certificate(reference_file), "grade": "silver"})
    with pytest.raises(BgbenchError, match="grade silver is gold by its frames"):
        verify_reference(reference_file)


LISTS = {
    "another file": (
        b"0" * 64 + b"  GP.npz\n",
        ["GP.npz is listed but does not exist", "PG.npz is not in SHA256SUMS"],
    ),
    "no checksum": (b"PG.npz is mine\n", ["has a line that is not a checksum, 'PG.npz is mine'"]),
    "no text": (b"\xff\xfe\n", ["SHA256SUMS cannot be read"]),
    "nothing": (b"", ["PG.npz is not in SHA256SUMS"]),
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_something_else_is_reported(reference_file, tmp_path, cli, kind):
    written, sentences = LISTS[kind]
    (tmp_path / "SHA256SUMS").write_bytes(written)
    code, printed, complaint = cli("data", "verify", tmp_path)
    assert (code, printed) == (2, "")
    assert all(sentence in complaint for sentence in sentences)


def test_what_is_listed_and_gone_is_named_though_nothing_is_left(tmp_path, cli):
    (tmp_path / "SHA256SUMS").write_text("0" * 64 + "  GP.npz\n")
    code, _, complaint = cli("data", "verify", tmp_path)
    assert code == 2
    assert f"{tmp_path / 'GP.npz'} is listed but does not exist" in complaint
    assert "holds no reference" in complaint


@pytest.mark.parametrize("folder", ["references", "checks"])
def test_every_packaged_file_is_listed(folder):
    place = data_path(folder)
    files = [*place.glob("*.npz"), *place.glob("*.certificate.json")]
    assert set(read_sums(place)) == {path.name for path in files}
    for path in place.glob("*.npz"):
        refuse_unlisted(path)


@pytest.mark.parametrize("name", ["AA", "WS", "GGRS"])
def test_bonds_of_packaged_references_are_of_their_temperature(name):
    system = peptide(name)
    reference = read_reference(data_path("references", f"{name}.npz"), system)
    refuse_other_bonds(system, reference)
    with pytest.raises(Unsound, match="of another temperature than 500 K, or of constrained bonds"):
        refuse_other_bonds(system.at(500.0), reference)


def mirrored(reference):
    return {"x": -reference.x}


def reverse_energies(reference):
    return {"u": reference.u.flip(0)}


def repeated(reference):
    x, u = reference.x.clone(), reference.u.clone()
    x[1000:], u[1000:] = x[0], u[0]
    return {"x": x, "u": u}


def first_two(reference):
    return {"x": reference.x[:2], "u": reference.u[:2], "replica": torch.tensor([0, 1])}


def no_frames(reference):
    return {"x": reference.x[:0], "u": reference.u[:0], "replica": reference.replica[:0]}


def with_certificate(**entries):
    return lambda reference: {"certificate": {**reference.certificate, **entries}}


def without_grade(reference):
    return {"certificate": {name: v for name, v in reference.certificate.items() if name != "grade"}}


def with_replica(make):
    return lambda reference: {"replica": make(reference.replica)}


def with_tica(mean, projection):
    def change(reference):
        model = reference.tica
        return {"tica": TicaModel(mean(model.mean), projection(model.projection))}

    return change


UNSOUND = {
    "energies of other frames": (reverse_energies, "stored energies are off by up to"),
    "energies shifted": (lambda r: {"u": r.u + 100}, "stored energies are off by up to 100"),
    "energies in kcal/mol": (lambda r: {"u": r.u * 0.616}, "stored energies are off"),
    "an energy that is NaN": (lambda r: {"u": r.u * float("nan")}, "energies are not all finite"),
    "mirror images": (mirrored, "100% of its frames have a mirrored stereocentre"),
    "repeated frames": (repeated, "only 1000 of its 2000 frames differ"),
    "two frames": (first_two, "it has 2 frames, 100 are needed"),
    "no frames": (no_frames, "it has 0 frames, 100 are needed"),
    "other counts": (with_certificate(frames=10**6), "holds 2000 frames, its certificate says 1000000"),
    "unknown grade": (with_certificate(grade="platinum"), "grade 'platinum' is not one of"),
    "grade 3": (with_certificate(grade=3), "grade 3 is not one of"),
    "no grade": (without_grade, "grade None is not one of"),
    "a grade not earned": (with_certificate(grade="silver"), "grade silver is gold by its frames"),
    "another name": (lambda r: {"system": "GP"}, "it is called 'GP'"),
    "one replica": (with_replica(torch.zeros_like), "replicas must be numbered from 0, two at least"),
    "negative replicas": (with_replica(torch.neg), "replicas must be numbered from 0"),
    "replicas that are no integers": (with_replica(torch.Tensor.double), "replicas must be numbered from 0"),
    "no TICA model": (lambda r: {"tica": None}, "no TICA model, and R̂ of TICs"),
    "TICA of NaN": (with_tica(lambda m: m * float("nan"), lambda p: p), "TICA means are not all finite"),
    "TICA scaled": (with_tica(lambda m: m, lambda p: 100 * p), "its TICA model is of other frames"),
    "TICA flipped": (with_tica(lambda m: m, lambda p: p.flip(0)), "TIC"),
}


@pytest.fixture(scope="module")
def proline():
    """A peptide with its packaged reference: 2,000 frames."""
    return peptide("PG"), find_reference(peptide("PG"))


@pytest.mark.parametrize("kind", UNSOUND)
def test_no_run_is_judged_by_an_unsound_reference(kind, proline):
    """Each of these was judged by without a word, or crashed every cell."""
    change, message = UNSOUND[kind]
    system, reference = proline
    with pytest.raises(BgbenchError, match=message) as refusal:
        refuse_unsound(system, replace(reference, **change(reference)), "openmm")
    text = str(refusal.value)
    assert text.startswith("the reference of PG is not sound: ")
    assert text.endswith("; simulate or fetch it again")
    assert len(text.splitlines()) == 1


def test_sound_references_pass_also_reweighted_and_analytic_ones():
    hot = peptide("PG", 330.0)
    refuse_unsound(hot, find_reference(hot), "openmm")
    for name in KINDS:
        refuse_unsound(build_system(name), build_reference(name), "analytic")


@pytest.mark.usefixtures("rough_peptides")
def test_every_packaged_reference_is_of_its_models_scale():
    """A narrower rule had refused KKAP, and with it every run of its suite: a TIC of a state that plain
    dynamics never left is wide in the whole ensemble."""
    for suite in ("dipeptides30@1", "tetrapeptides30@1"):
        for name in load_suite(suite).systems:
            system = peptide(name)
            refuse_other_scale(system, find_reference(system))


@pytest.mark.slow
def test_every_packaged_reference_is_sound():
    for suite in ("dipeptides30@1", "tetrapeptides30@1"):
        for name in load_suite(suite).systems:
            system = peptide(name)
            refuse_unsound(system, find_reference(system), "openmm")


def test_a_plan_refuses_an_unsound_reference_in_one_line(reference_file, monkeypatch, cli):
    damage(reference_file, {"energies": energies_of(reference_file) + 100.0})
    monkeypatch.setenv("BGBENCH_REFERENCES", str(reference_file.parent))
    out = reference_file.parent / "run"
    code, _, err = cli(
        "run", "prior", "--only", "PG", "--suite", "dipeptides30@1", "--budget", 20, "--seeds", 1,
        "--workers", 0, "--tracking-uri", "none", "--out", out,
    )  # fmt: skip
    assert code == 2
    assert err == (
        "bgbench: the reference of PG is not sound: stored energies are off by up to 100.0 kT; simulate or "
        "fetch it again\n"
    )
    assert not out.exists()


def test_a_plan_refuses_an_unsound_reference_of_a_plugin(monkeypatch):
    plugin, origin = plugins().systems["analytic:harmonic"], plugins().systems.origin("analytic:harmonic")

    def tripled():
        reference = plugin.reference()
        return replace(reference, u=3 * reference.u)

    entry = (replace(plugin, reference=tripled), origin)
    monkeypatch.setitem(plugins().systems._entries, "analytic:harmonic", entry)
    system = build_system("analytic:harmonic")
    with pytest.raises(BgbenchError, match=r"not sound: stored energies are off by .*uninstall its plugin"):
        refuse_unsound(system, find_reference(system), "analytic")
