"""Suite files: names in one spelling, and every mistake in one line that names the file."""

import pytest

from bgbench import BgbenchError, Card
from bgbench.cli.targets import targets_of
from bgbench.core.plugins import plugins
from bgbench.evaluation.leakage import leakage
from bgbench.evaluation.suites import read_suite
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
    with pytest.raises(BgbenchError, match="is not a suite: suite mine lists a system twice"):
        read_suite(write("systems: [ae, AE]"))


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


@pytest.mark.parametrize("trained_on", ["AE", "ae", "AE-310K", " AE "])
@pytest.mark.parametrize("tested", ["AE", "ae"])
def test_what_was_trained_on_is_seen_in_any_spelling(trained_on, tested):
    assert leakage(Card("mine", training_sequences=("GG", trained_on), n_parameters=1), tested) == "seen"


def test_data_commands_take_both_endings_of_a_suite_file(tmp_path):
    for ending in ("yaml", "yml"):
        path = tmp_path / f"mine@1.{ending}"
        path.write_text("systems: [AA]\n")
        assert [target.name for target in targets_of([str(path)])] == ["AA"]


def test_an_unknown_energy_names_the_command_that_lists_them():
    with pytest.raises(BgbenchError, match=r"see `bgbench list energies`"):
        plugins().energies["foo"]
