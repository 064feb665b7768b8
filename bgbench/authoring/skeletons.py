"""Skeletons of packages: one plugin that installs, runs and passes its own tests, to be filled in."""

import keyword
import re
from pathlib import Path

import jinja2

from bgbench.core.errors import BgbenchError
from bgbench.core.hookspecs import PLAIN_NAME
from bgbench.core.options import refuse_unknown_word

TEMPLATES = Path(__file__).parent / "templates"

KINDS = {
    "sampler": "samplers",
    "metric": "metrics",
    "estimator": "estimators",
    "energy": "energies",
    "suite": "suites",
    "protocol": "protocols",
}
"""What `bgbench new` writes, and how `bgbench list` calls it."""


def write_skeleton(kind: str, name: str, parent: Path | str = ".") -> Path:
    """Write a package with one plugin of a kind: pyproject, code that runs, tests, CI file and README.

    Args:
        kind: `sampler`, `metric`, `estimator`, `energy`, `suite` or `protocol`.
        name: of the plugin and of its distribution: letters, digits, `.`, `_` and `-`.
        parent: the folder in which the folder NAME is made.

    Returns:
        The folder NAME. Install it with `pip install -e NAME`.

    Raises:
        BgbenchError: for another kind, a name that Python cannot import, and a folder that is there already
            or cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     folder = write_skeleton("metric", "end-to-end", place)
    ...     sorted(path.name for path in folder.iterdir())
    ['.github', 'README.md', 'end_to_end', 'pyproject.toml', 'tests']
    """
    refuse_unknown_word("the kind of `bgbench new`", kind, KINDS)
    package = re.sub(r"[.-]", "_", name.lower())
    if not PLAIN_NAME.fullmatch(name) or not package.isidentifier() or keyword.iskeyword(package):
        raise BgbenchError(
            f"'{name}' is no name of a plugin and a Python package; begin with a letter, go on with letters, "
            "digits, - or _"
        )
    folder = Path(parent) / name
    if folder.exists():
        raise BgbenchError(f"{folder} is there already; choose another name, or another folder with --to")
    registered = f"{name}@1" if kind in ("suite", "protocol") else name
    words = {
        "name": name,
        "package": package,
        "cls": "".join(word.capitalize() for word in package.split("_")),
        "registered": registered,
        "plural": KINDS[kind],
    }
    files = {
        "pyproject.toml": "common/pyproject.toml",
        "README.md": "common/README.md",
        ".github/workflows/tests.yml": "common/ci.yml",
        f"{package}/__init__.py": f"{kind}/__init__.py",
        f"tests/test_{package}.py": f"{kind}/test.py",
    }
    if (TEMPLATES / kind / "file.yaml.jinja").is_file():
        files[f"{package}/{KINDS[kind]}/{registered}.yaml"] = f"{kind}/file.yaml"
    # Braces that GitHub reads would be read here too: no template has any.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    try:
        for file, template in files.items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(environment.get_template(f"{template}.jinja").render(words))
    except OSError as error:
        raise BgbenchError(
            f"cannot write {folder}: {error.strerror}; choose another folder with --to"
        ) from error
    return folder
