"""What words of `bgbench data` stand for."""

import pytest

from bgbench.cli.targets import targets_of


@pytest.mark.parametrize("name", ["mine@1.yaml", "mine@1.yml"])
def test_a_suite_file_with_either_ending_stands_for_its_systems(tmp_path, name):
    path = tmp_path / name
    path.write_text("systems: [AA, GS]\ntemperature: 350\n")
    assert [(target.name, target.temperature) for target in targets_of([str(path)])] == [
        ("AA", 350.0),
        ("GS", 350.0),
    ]
