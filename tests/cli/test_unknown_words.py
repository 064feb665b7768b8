"""The law of unknown words: whatever is misspelt, the answer names the nearest known word."""

import pytest


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (("run", "prse"), "prose"),
        (("run", "prior", "--suite", "tetrapeptide30"), "tetrapeptides30@1"),
        (("run", "prior", "--estimator", "snsi"), "snis"),
        (("run", "prior", "--protocol", "bgbench@2"), "bgbench@1"),
        (("run", "prior", "--cluster", "slrum"), "slurm"),
        (("run", "prior", "--only", "AAA"), "AA"),
        (("run", "prior", "--set", "widht=1"), "width"),
        (("run", "prior", "--set", "estimater.x=1"), "estimator.x"),
        (("data", "simulate", "AA", "--engine", "batchd"), "batched"),
        (("data", "fetch", "many-peptide-md", "--suite", "dipeptides30"), "many-peptides-md"),
        (("train", "prose", "--set", "stepz=3"), "steps"),
        (("train", "prose", "--set", "config=prose-mimi"), "prose-mini"),
        (("list", "samplrs"), "samplers"),
        (("audit", "vers"), "verse"),
        (("options", "slrum"), "slurm"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_the_nearest_known_word_is_named(cli, tmp_path, monkeypatch, words, nearest):
    monkeypatch.chdir(tmp_path)
    code, _, err = cli(*words)
    assert code == 2
    assert f"did you mean '{nearest}'?" in " ".join(err.split())
