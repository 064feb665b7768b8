"""Suite files: names in one spelling, and every mistake in one line that names the file."""

import random
import re

import pytest

from bgbench import BgbenchError, Card
from bgbench.cli.targets import targets_of
from bgbench.core.plugins import plugins
from bgbench.data import held_out
from bgbench.evaluation.diagnostics import warn_of_length
from bgbench.evaluation.leakage import leakage
from bgbench.evaluation.protocols import read_protocol
from bgbench.evaluation.suites import load_suite, read_suite
from bgbench.runs.planning import resolve
from bgbench.runs.request import RunRequest
from bgbench.runs.resuming import refuse_another_plan
from bgbench.systems.named import find_member
from bgbench.systems.peptides import peptide


@pytest.fixture
def write(tmp_path):
    def to_file(text):
        path = tmp_path / "mine@1.yaml"
        path.write_text(text)
        return path

    return to_file


def test_peptides_have_one_spelling(write):
    assert read_suite(write('systems: [ae, "analytic:double-well"]')).systems == (
        "AE",
        "analytic:double-well",
    )
    assert read_suite(write('systems: [" AE", "analytic:harmonic "]')).systems == ("AE", "analytic:harmonic")
    for twice in ("[ae, AE]", '[" AE", "AE "]'):
        with pytest.raises(BgbenchError, match="is not a suite: suite mine lists a system twice: AE; leave"):
            read_suite(write(f"systems: {twice}"))


@pytest.mark.parametrize("number", ["0100", "1:40", "0x2", "0b11", "+010", "5:10.0"])
@pytest.mark.parametrize("field", ["budget", "seeds", "forcefield.cutoff"])
def test_a_number_that_yaml_reads_as_another_one_is_refused(write, field, number):
    part, _, name = field.partition(".")
    text = f"{part}: {{{name}: {number}}}" if name else f"{part}: {number}"
    with pytest.raises(
        BgbenchError, match=rf"{field}: YAML has a reading of its own for '{re.escape(number)}'"
    ):
        read_suite(write(f"systems: [AA]\n{text}\n"))


def test_plain_numbers_are_read(write):
    suite = read_suite(write("systems: [AA]\nbudget: 1_000\nseeds: 2\ntemperature: 3.1e2\n"))
    assert (suite.budget, suite.seeds, suite.temperature) == (1000, 2, 310.0)


@pytest.mark.parametrize("word", ["${oc.env:HOME}", "${budget}", "${oc.decode:7}"])
def test_a_suite_or_protocol_refers_to_nothing_outside_it(write, word):
    for read in (read_suite, read_protocol):
        with pytest.raises(BgbenchError, match="refers to another value; write the value itself"):
            read(write(f"summary: {word}\nsystems: [AA]\n"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("budget: -1", "budget must be 1 or more, got -1"),
        ("seeds: 0", "seeds must be 1 or more, got 0"),
        ("temperature: -5", "temperature must be positive and finite, got -5 K"),
        ("temperature: .inf", "temperature must be positive and finite, got inf K"),
        ("budget: 1\nbudget: 2", "line 3: found duplicate key budget; .*leave one of them out"),
        ("forcefield:\n\tname: mine", "line 3: .*indent with spaces instead of tabs"),
        ("---\nsystems: [AA]", "line 2: it holds several documents; leave out `---`"),
        ("budget: &self [*self]", "budget: it holds itself"),
        (
            "forcefield: {name: ../../etc}",
            "force field '../../etc': its name is the name of a folder",
        ),
        ("forcefield: {name: ''}", "force field '': its name is the name of a folder"),
    ],
)
def test_what_no_run_can_have_is_one_line_with_advice(write, text, complaint):
    with pytest.raises(BgbenchError, match=rf"mine@1\.yaml is not a suite: {complaint}") as caught:
        read_suite(write(f"systems: [AA]\n{text}\n"))
    assert "\n" not in str(caught.value)


def test_the_ending_of_a_suite_file_may_be_in_capitals(tmp_path):
    path = tmp_path / "MINE@1.YAML"
    path.write_text("systems: [AA]\n")
    assert load_suite(str(path)).id == "MINE@1"
    assert [target.name for target in targets_of([str(path)])] == ["AA"]


def test_quoted_peptides_of_yamls_own_words_are_peptides(write):
    assert read_suite(write('systems: ["YES", "FALSE"]')).systems == ("YES", "FALSE")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("systems: [AA, YES]", 'YAML reads YES as true; write it in quotes, "YES"'),
        ("systems: [AA, FALSE]", 'YAML reads FALSE as false; write it in quotes, "FALSE"'),
        ("budget: 3", "systems: Field required"),
        ("systems: AA", "systems: "),
        ("systems: [AA]\nforcefield: {cutoff: -1}", "cutoff must be positive, got -1.0 nm"),
        (
            "systems: [AA]\nforcefield: {nonbonded_method: cutoffnonperiodic}",
            "unknown word 'cutoffnonperiodic'; did you mean 'CutoffNonPeriodic'? Known: NoCutoff,",
        ),
        (
            "systems: [AA]\nforcefield: {constraints: hbonds}",
            "unknown word 'hbonds'; did you mean 'HBonds'? Known: HBonds, AllBonds, HAngles",
        ),
        (
            "systems: [AA]\nforcefield: {cutof: 1}",
            "field 'forcefield.cutof'; did you mean 'forcefield.cut",
        ),
        ("systems: [AA]\nbugdet: 3", "unknown field 'bugdet'; did you mean 'budget'?"),
        ("systems: [AA]\nseeds: yes", "seeds: Input should be a valid integer"),
        ("systems: [AA]\nbudget: '300'", "budget: Input should be a valid integer"),
        (
            "systems: [AA]\nforcefield: {nonbonded_method: PME}",
            "unknown word 'PME'; known: NoCutoff",
        ),
    ],
)
def test_mistakes_are_one_line(write, text, complaint):
    with pytest.raises(BgbenchError, match=r"mine@1\.yaml is not a suite: ") as caught:
        read_suite(write(text))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ("nope.xml", "nope.xml cannot be read .*name files that OpenMM has"),
        ("{tmp}/text.xml", "text.xml cannot be read .*or give paths of your own"),
        ("tip3p.xml", "does not know AA: No template found .*such as amber14-all.xml"),
    ],
)
def test_force_fields_that_are_none_of_a_peptide_are_one_line(write, tmp_path, files, complaint):
    (tmp_path / "text.xml").write_text("no XML")
    name = files.format(tmp=tmp_path)
    suite = read_suite(write(f"systems: [AA]\nforcefield: {{name: mine, files: [{name}]}}"))
    with pytest.raises(BgbenchError, match=complaint) as caught:
        peptide("AA", 310.0, suite.forcefield)
    assert "\n" not in str(caught.value)


SPELLINGS = [
    "AE", "ae", " AE ", "AE\n", "ＡＥ", "AE-310K", "AE_310K", "AE 310K", "AE@310K", "AE.npz", "AE.pdb",
    "._AE", "train/AE.npz", "train\\AE_310K.npz", "train_AE", "AE_implicit.h5", "A-E", "A E", "A,E",
    "ALA-GLU", "Ala-Glu", "AlaGlu", "ALA GLU 310K", "ACE-AE-NME", "ACE-ALA-GLU-NME", "DI;AE", "AE:1",
]  # fmt: skip


@pytest.mark.parametrize("trained_on", SPELLINGS)
@pytest.mark.parametrize("tested", ["AE", "ae"])
def test_what_was_trained_on_is_seen_in_any_spelling(trained_on, tested):
    assert leakage(Card("mine", training_sequences=("GG", trained_on), n_parameters=1), tested) == "seen"


@pytest.mark.parametrize("name", ["chignolin", "CLN025", "AXE", "A", "", "noble gas", "AE310K"])
def test_beside_a_name_that_is_no_sequence_nothing_is_unseen(name):
    card = Card("mine", training_sequences=("GGGG", name), n_parameters=1)
    assert [leakage(card, tested) for tested in ("PPPP", "GGGA", "GGGG")] == ["unknown", "similar", "seen"]


@pytest.mark.parametrize("name", ["PP", "ACE", "ACE_310K", "PPPP.npz", "analytic:double-well"])
def test_other_sequences_and_systems_are_unseen(name):
    card = Card("mine", training_sequences=(name,), n_parameters=1)
    assert leakage(card, "GG") == "unseen"


def test_the_longest_training_peptide_counts_residues_not_letters():
    card = Card("mine", training_sequences=("ALA-ALA", "train/GG_310K.npz", "analytic:double-well"))
    assert warn_of_length(card, "AAA") == ["AAA has 3 residues, the longest training peptide 2: extrapolated"]


def test_data_commands_take_both_endings_of_a_suite_file(tmp_path):
    for ending in ("yaml", "yml"):
        path = tmp_path / f"mine@1.{ending}"
        path.write_text("systems: [AA]\n")
        assert [target.name for target in targets_of([str(path)])] == ["AA"]


def test_an_unknown_energy_names_the_command_that_lists_them():
    with pytest.raises(BgbenchError, match=r"see `bgbench list energies`"):
        plugins().energies["foo"]


def test_a_registered_peptide_is_seen_under_its_sequence_whatever_its_name_is():
    card = Card("mine", training_sequences=("AA",), n_parameters=1)
    assert leakage(card, "lab:dimer") == "unseen"
    assert leakage(card, "lab:dimer", "AA") == "seen"
    assert leakage(Card("mine", training_sequences=("lab:dimer",)), "lab:dimer", "AA") == "seen"


def test_systems_can_have_terms_of_their_own(write):
    suite = read_suite(
        write(
            "systems: [AA, ace-a-nme]\ntemperature: 310.0\nterms:\n- systems: [Ace-A-Nme]\n"
            "  temperature: 300.0\n  forcefield: {name: ff99, files: [amber99sbildn.xml]}\n"
        )
    )
    assert [suite.temperature_of(name) for name in suite.systems] == [310.0, 300.0]
    assert [suite.forcefield_of(name).name for name in suite.systems] == ["amber14-obc1", "ff99"]
    system = find_member(suite, "ACE-A-NME")
    assert (system.temperature, system.forcefield.name) == (300.0, "ff99")
    assert find_member(suite, "AA", 350.0).temperature == 350.0


@pytest.mark.parametrize(
    ("terms", "complaint"),
    [
        ("[{systems: [GS], temperature: 300.0}]", "terms name 'GS', which is not among the systems"),
        ("[{systems: [AA], temperature: 300.0}, {systems: [AA], temperature: 310.0}]", "'AA' twice"),
        ("[{systems: [AA]}]", "terms need systems, and a force field or a temperature"),
        ("[{systems: [AA], temperature: -1.0}]", "temperature"),
        ("[{systems: [AA], temprature: 300.0}]", "unknown field 'terms.0.temprature'"),
        ("[{systems: [AA], forcefield: {nam: a}}]", "unknown field 'terms.0.forcefield.nam'"),
        ("{AA: 300.0}", "unknown field 'terms.AA'; known: terms.forcefield, terms.systems"),
        ("[AA]", "terms.0"),
    ],
)
def test_mistakes_in_terms_are_one_line(write, terms, complaint):
    with pytest.raises(BgbenchError, match=re.escape(complaint)) as error:
        read_suite(write(f"systems: [AA]\nterms: {terms}\n"))
    assert "\n" not in str(error.value)


@pytest.fixture
def capped_plan():
    """A run of two single systems, each on its own terms."""
    request = RunRequest(
        sampler="prior", suite="single5", only=("ACE-A-NME", "AAA"), budget=20, seeds=1, tracking_uri="none"
    )
    return resolve(request), request


def test_a_plan_has_each_systems_own_terms_and_is_resumed_with_them(capped_plan, tmp_path):
    plan, request = capped_plan
    assert [(cell.system, cell.temperature) for cell in plan.cells] == [("ACE-A-NME", 300.0), ("AAA", 310.0)]
    assert all(plan.inputs.references.values())
    refuse_another_plan(tmp_path, plan, RunRequest(sampler="prior", suite="single5", tracking_uri="none"))
    hot = request.model_copy(update={"temperature": 350.0})
    with pytest.raises(BgbenchError, match=r"planned with temperature \[300\.0, 310\.0\], not 350"):
        refuse_another_plan(tmp_path, plan, hot)


def test_missing_references_on_several_terms_are_made_by_one_command(write, own_references):
    path = write("systems: [AA, GG, ACE-G-NME]\nterms: [{systems: [ACE-G-NME], temperature: 300.0}]\n")
    request = RunRequest(sampler="prior", suite=str(path), tracking_uri="none")
    made = "data simulate SUITE.yaml --only GG --only ACE-G-NME --engine softened`; or run .* --only AA"
    with pytest.raises(BgbenchError, match=f"no reference for GG, ACE-G-NME on the terms of mine@1 .*{made}"):
        resolve(request)


def test_single5_is_as_published():
    """arXiv 2502.18462 and its code: which systems, with which ends, force field and temperature."""
    suite = load_suite("single5@1")
    published = {
        "ACE-A-NME": (22, 300.0, ("amber99sbildn.xml", "amber99_obc.xml"), "NoCutoff"),
        "AAA": (33, 310.0, ("amber14-all.xml", "implicit/obc1.xml"), "CutoffNonPeriodic"),
        "ACE-AAA-NME": (42, 300.0, ("amber99sbildn.xml", "amber99_obc.xml"), "NoCutoff"),
        "AAAAAA": (63, 310.0, ("amber14-all.xml", "implicit/obc1.xml"), "CutoffNonPeriodic"),
        "GYDPETGTWG": (138, 310.0, ("amber14-all.xml", "implicit/obc1.xml"), "CutoffNonPeriodic"),
    }
    assert suite.systems == tuple(published)
    for name, (n_atoms, kelvin, files, method) in published.items():
        system = find_member(suite, name)
        spec = system.forcefield
        assert (system.n_atoms, system.temperature) == (n_atoms, kelvin)
        assert (spec.files, spec.nonbonded_method, spec.cutoff) == (files, method, 2.0)


def test_xl10_follows_its_rule_and_is_held_out():
    suite, generator = load_suite("xl10@1"), random.Random("xl10@1")
    lengths = (9, 10, 11, 12, 13, 14, 15, 16, 18, 20)
    rule = tuple("".join(generator.choices("ACDEFGHIKLMNPQRSTVWY", k=length)) for length in lengths)
    assert suite.systems == rule
    assert frozenset(rule) == held_out("long")
    assert frozenset(rule) <= held_out()
