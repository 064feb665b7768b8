"""Runs in YAML files: `bgbench run -c run.yaml`, and the resolved file that every run folder holds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bgbench.core.errors import BgbenchError
from bgbench.core.files import atomic_file
from bgbench.core.options import RUN_TEMPERATURE, nearest_word
from bgbench.evaluation.protocols import protocol_copy
from bgbench.evaluation.suites import suite_copy
from bgbench.runs.request import KEYWORDS, RunRequest
from bgbench.runs.runfolder import Plan

CONFIG = "config.yaml"
"""The resolved configuration in a run folder."""

KEYS = tuple(sorted({"sampler", *KEYWORDS} - {"resume", "retry_failed"}))
"""What a configuration may say: the keywords of `bgbench.run` but those about a run that is there."""

FILES = ("suite", "protocol")
"""Keys whose values may be YAML files; a relative one is looked for beside the configuration first."""


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration: keywords of `RunRequest.from_keywords`, and `sampler`.

    `options` may be nested: `options: {estimator: {cut: psis}}` is `estimator.cut`. Interpolations of
    OmegaConf such as `${oc.env:HOME}` are resolved.

    Args:
        path: a YAML file.

    Returns:
        The keywords, without those that the file does not have or leaves empty.

    Raises:
        BgbenchError: if the file cannot be read, or for a key that no configuration has.
    """
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise BgbenchError(f"cannot read {path}: {reason}; write a YAML file of keywords") from error
    if not isinstance(content, dict):
        raise BgbenchError(f"{path} must map keywords to values, as `sampler: prior`")
    for key in content:
        if key not in KEYS:
            nearest = nearest_word(str(key), KEYS)
            hint = f"did you mean '{nearest}'?" if nearest else f"its keys are {', '.join(KEYS)}"
            raise BgbenchError(f"{path} has an unknown key '{key}'; {hint}")
    keywords = {key: value for key, value in content.items() if value is not None}
    if not isinstance(keywords.get("options", {}), dict):
        raise BgbenchError(f"{path}: options must map names to values, got {keywords['options']!r}")
    if isinstance(keywords.get("only"), str):
        raise BgbenchError(f"{path}: only must be a list of systems, as [{keywords['only']}]")
    if "options" in keywords:
        keywords["options"] = _flat(keywords["options"])
    for key in FILES:
        beside = path.parent / str(keywords.get(key, ""))
        if str(keywords.get(key, "")).endswith(".yaml") and beside.is_file():
            keywords[key] = str(beside)
    return keywords


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Nested options by their names on the command line."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        inner = _flat(value) if isinstance(value, Mapping) else {"": value}
        flat |= {f"{name}.{key}" if key else str(name): each for key, each in inner.items()}
    return flat


def merge(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with what is given over it; of the options, each by its name.

    >>> merge({"budget": 10, "options": {"a": 1, "b": 2}}, {"budget": None, "options": {"b": 3}})
    {'budget': 10, 'options': {'a': 1, 'b': 3}}
    """
    stated = {key: value for key, value in given.items() if value is not None}
    options = {**config.get("options", {}), **stated.get("options", {})}
    return {**config, **stated, **({"options": options} if options else {})}


def write_config(folder: Path, plan: Plan, request: RunRequest) -> None:
    """Write what a run was asked for, defaults filled in, into its folder; suite and protocol are its copies.

    Raises:
        BgbenchError: if it cannot be written.
    """
    cell = plan.cells[0]
    seeds = sorted({each.seed for each in plan.cells})
    options = {
        **cell.options,
        **{f"estimator.{name}": value for name, value in cell.estimator_options.items()},
        **{f"cluster.{name}": value for name, value in request.cluster_options.items()},
    }
    if request.temperature is not None:
        options[RUN_TEMPERATURE] = f"{request.temperature!r}"
    stated: dict[str, Any] = request.model_dump(exclude_defaults=True, include={*KEYS} - {"out", "options"})
    resolved = {
        "sampler": plan.sampler,
        "suite": str(suite_copy(Path(), plan.suite)),
        "estimator": plan.estimator,
        "protocol": str(protocol_copy(Path(), plan.protocol)),
        "budget": plan.budget,
        "seeds": len(seeds),
        "first_seed": seeds[0],
        "only": list(dict.fromkeys(each.system for each in plan.cells)),
        "options": {name: str(value).replace("${", "\\${") for name, value in options.items()},
    }
    rest = {key: value for key, value in stated.items() if key not in resolved}
    text = "# What this run was asked for: `bgbench run -c config.yaml` runs it again.\n"
    with atomic_file(folder / CONFIG) as stream:
        stream.write((text + OmegaConf.to_yaml(OmegaConf.create({**resolved, **rest}))).encode())
