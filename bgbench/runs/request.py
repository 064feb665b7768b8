"""What a user asks for: which run, and where its cells are computed."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import Field, ValidationError, model_validator

from bgbench.core.devices import AUTO, refuse_unknown_device
from bgbench.core.errors import BgbenchError
from bgbench.core.files import Strict
from bgbench.core.options import (
    RUN_TEMPERATURE,
    describe_known,
    nearest_word,
    refuse_unknown_prefixes,
    select_prefixed,
    select_sampler_options,
)

DEFAULT_SUITE = "dipeptides-mini@1"

Cluster = Literal["slurm", "slurm-array"]
"""Jobs that hold Dask workers, or a plain job array whose records `--resume` collects."""


class RunRequest(Strict):
    """Everything that can be asked of a run; `None` or empty means "the default".

    The defaults come from the suite or from the sampler, or, where a run is resumed, from its plan.
    `bgbench.run` and the command line both make their request with `RunRequest.from_keywords`;
    `planning.resolve` turns it into a `Plan`.

    Args:
        sampler: name of a registered sampler.
        suite: `name@version`, `name` alone for its latest version, or the path of a suite's YAML file.
        estimator: name of a registered estimator; default: the sampler's own.
        protocol: `name@version`, `name` alone for its latest version, or the path of a protocol's YAML file;
            default: the suite's.
        budget: energy evaluations of each cell; default: the suite's.
        seeds: seeds of each system; default: the suite's.
        first_seed: the first of these consecutive seeds; default: 0.
        only: systems of the suite to run; empty: all of them.
        temperature: in K; default: the suite's.
        options: options of the sampler, as text.
        estimator_options: options of the estimator, as text.
        tracking_uri: where to mirror the records, or "none"; default: a SQLite file in the run folder.
        out: the run folder; default: a new one below `runs/`.
        resume: go on with the run in `out`.
        retry_failed: when resuming, run cells that failed again.
        workers: worker processes, or jobs of the `cluster`; 0: run the cells in this process.
        threads: threads of each worker; default: one, or with GPUs an equal share of the cores.
        device: where samplers compute: `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:K`.
        scheduler: address (`tcp://HOST:PORT`) of a Dask scheduler whose workers run the cells.
        cluster: `slurm`: submit the workers as jobs; `slurm-array`: submit the cells as a job array, and end.
        cluster_options: options of the `cluster`, as text.
        timeout: seconds that a cell may take.
        memory: MB that a cell may use.

    Raises:
        BgbenchError: for a number out of its range, or for arguments that exclude each other.
    """

    sampler: str
    suite: str | None = None
    estimator: str | None = None
    protocol: str | None = None
    budget: int | None = None
    seeds: int | None = None
    first_seed: int | None = None
    only: tuple[str, ...] = ()
    temperature: float | None = None
    options: dict[str, str] = Field(default_factory=dict)
    estimator_options: dict[str, str] = Field(default_factory=dict)
    tracking_uri: str | None = None
    out: Path | None = None
    resume: bool = False
    retry_failed: bool = False
    workers: int | None = None
    threads: int | None = None
    device: str = AUTO
    scheduler: str | None = None
    cluster: Cluster | None = None
    cluster_options: dict[str, str] = Field(default_factory=dict)
    timeout: float = math.inf
    memory: float = math.inf

    @classmethod
    def from_keywords(cls, sampler: str, **keywords: Any) -> Self:
        """The request for these keywords; those that are `None` count as not given.

        `options` holds the options of everything, with prefixes as in `--set`: `estimator.NAME` is the
        estimator's, `cluster.NAME` the cluster's, `temperature` the system's, and others are the sampler's.

        Raises:
            BgbenchError: for an unknown keyword or prefix, and for a value of the wrong type or range.
        """
        fields = {name: value for name, value in keywords.items() if value is not None}
        for name in fields:
            if name not in KEYWORDS:
                raise BgbenchError(_unknown_keyword(name, fields[name]))
            if name in NUMBERS and isinstance(fields[name], bool):
                raise BgbenchError(f"{name}={fields[name]} is not a number; write one")
        if fields.get("only") in ([], ()):
            raise BgbenchError("only=[] names no system; leave it out to run all of them")
        options = _as_text(fields.pop("options", {}))
        refuse_unknown_prefixes(options)
        try:
            return cls(
                sampler=sampler,
                options=select_sampler_options(options),
                estimator_options=select_prefixed(options, "estimator"),
                cluster_options=select_prefixed(options, "cluster"),
                temperature=_kelvin(options["temperature"]) if "temperature" in options else None,
                **fields,
            )
        except ValidationError as error:
            raise BgbenchError(_explained(error)) from error

    @model_validator(mode="after")
    def _refuse_impossible(self) -> Self:
        refuse_unknown_device(self.device)
        self._refuse_numbers_out_of_range()
        self._refuse_contradictions()
        return self

    def _refuse_numbers_out_of_range(self) -> None:
        least = {"budget": 1, "seeds": 1, "first_seed": 0, "workers": 0, "threads": 1}
        for name, limit in least.items():
            value = getattr(self, name)
            if value is not None and value < limit:
                raise BgbenchError(f"{_option(name)} must be at least {limit}, got {value}")
        for name in ("timeout", "memory", "temperature"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise BgbenchError(f"{_option(name)} must be positive, got {value:g}")
        if self.temperature == math.inf:
            raise BgbenchError("--set temperature must be finite, got inf")

    def _refuse_contradictions(self) -> None:
        if self.resume and self.out is None:
            raise BgbenchError("--resume needs to know which run to resume; name its folder with --out")
        if self.retry_failed and not self.resume:
            raise BgbenchError("--retry-failed has no effect without --resume; add --resume, or leave it out")
        if self.scheduler is not None and self.cluster is not None:
            raise BgbenchError(
                "--scheduler and --cluster exclude each other: cells run either on the workers of an "
                "existing Dask scheduler or in jobs of a cluster; leave one of them out"
            )
        if self.workers is not None and self.scheduler is not None:
            raise BgbenchError(
                f"--workers {self.workers} has no effect with --scheduler, which has workers of its own; "
                "leave one of them out"
            )
        if self.workers == 0 and self.cluster is not None:
            raise BgbenchError(
                "--workers 0 runs cells in this process and --cluster in jobs; leave one of them out, or say "
                "how many jobs"
            )
        if self.cluster_options and self.cluster is None:
            name = next(iter(self.cluster_options))
            raise BgbenchError(f"--set cluster.{name} has no effect without --cluster; add --cluster slurm")
        if self.in_process:
            for name in ("timeout", "memory"):
                if getattr(self, name) < math.inf:
                    raise BgbenchError(
                        f"--{name} needs worker processes, which can be stopped; leave out --workers 0"
                    )

    @property
    def in_process(self) -> bool:
        """Whether the cells run in the calling process."""
        return self.workers == 0 and self.scheduler is None and self.cluster is None


KEYWORDS = frozenset(RunRequest.model_fields) - {
    "sampler",
    "temperature",
    "estimator_options",
    "cluster_options",
}
"""Keywords of `bgbench.run`. The fields left out are given in its `options`."""

NUMBERS = ("budget", "seeds", "first_seed", "workers", "threads", "timeout", "memory")
"""Keywords whose values are numbers, which `True` is not."""


def _option(name: str) -> str:
    return "--set temperature" if name == "temperature" else f"--{name.replace('_', '-')}"


def _kelvin(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise BgbenchError(f"--set temperature={text}: '{text}' is not a temperature in K") from error


def _as_text(options: Any) -> dict[str, str]:
    """Options as the command line gives them: text.

    Raises:
        BgbenchError: unless `options` maps names to values.
    """
    if not isinstance(options, Mapping):
        raise BgbenchError(
            f"options must map names to values, got {options!r}; write options={{'name': '1'}}"
        )
    return {str(name): str(value) for name, value in options.items()}


def _unknown_keyword(name: str, value: Any) -> str:
    nearest = nearest_word(name, (*KEYWORDS, RUN_TEMPERATURE))
    if nearest == RUN_TEMPERATURE:
        advice = f"write options={{'temperature': '{value}'}}"
    elif name in ("estimator_options", "cluster_options"):
        prefix = name.removesuffix("_options")
        advice = f"write options={{'{prefix}.NAME': 'VALUE'}}"
    elif nearest:
        advice = f"did you mean '{nearest}'?"
    else:
        advice = (
            f"its keywords are {', '.join(sorted(KEYWORDS))}; options of the sampler go into options={{…}}"
        )
    return f"bgbench.run has no keyword '{name}'; {advice}"


def _explained(error: ValidationError) -> str:
    """The first thing that pydantic complains of, with the value."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    if name == "cluster":
        return f"unknown cluster '{first['input']}'{describe_known(str(first['input']), get_args(Cluster))}"
    return f"{name}={first['input']!r} is not valid: {first['msg'][0].lower()}{first['msg'][1:]}"
