"""Where a result came from: versions, commit, host."""

import os
import platform
import subprocess
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

LIBRARIES = ("torch", "openmm", "numpy", "scipy", "mdtraj", "deeptime", "POT", "numba", "scikit-learn")

PARTS = tuple(
    f":/{name}"
    for name in (
        "bgbench",
        "plugins",
        "datasets",
        "benchmarks/suites",
        "benchmarks/protocols",
        "pyproject.toml",
        "constraints.txt",
    )
)
"""What results rest on. Kept records and tables, which runs of several samplers write as they go, are not."""


def provenance() -> dict[str, Any]:
    """Describe what results made now rest on.

    Returns:
        Versions of bgbench and its libraries, git commit and dirtiness, the machine and its threads, as
        records hold them. Which device computed is known afterwards (`bgbench.core.devices`).

    >>> sorted(provenance())
    ['bgbench', 'git', 'host', 'libraries', 'python']
    """
    fixed = _fixed()
    now = {
        "torch_threads": torch.get_num_threads(),
        "visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
    }
    return {**fixed, "host": {**fixed["host"], **now}}


def versions() -> dict[str, str]:
    """Of bgbench and the libraries that results rest on."""
    return {"bgbench": _fixed()["bgbench"], **_fixed()["libraries"]}


@cache
def _fixed() -> dict[str, Any]:
    return {
        "bgbench": version("bgbench"),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "git": _git(Path(__file__).parent),
        "host": {
            "system": platform.platform(),
            "cpu": _cpu(),
            "cores": cores(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        },
    }


def cores() -> int:
    """Cores this process may use; where the system does not tell, all of them."""
    if platform.system() == "Linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_devices() -> tuple[str, ...]:
    """The GPUs of this machine that may be used, as CUDA_VISIBLE_DEVICES names them; none: ()."""
    if not torch.cuda.is_available():
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named:
        return tuple(named.split(","))
    return tuple(str(k) for k in range(torch.cuda.device_count()))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _cpu() -> str:
    """Name of the processor and, where Linux tells, what else chooses the code that libraries run on it.

    Virtual machines call many generations by one name; their vector instructions sum in another order.
    """
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    return described(info.read_text())


def described(cpuinfo: str) -> str:
    """The first processor of /proc/cpuinfo: name, family, model, stepping, a digest of its features."""
    first = cpuinfo.strip().partition("\n\n")[0].splitlines()
    known = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first)}
    name = known.get("model name") or platform.processor()
    places = [
        f"{key.split()[-1]} {known[key]}" for key in ("cpu family", "model", "stepping") if key in known
    ]
    features = known.get("flags") or known.get("Features", "")
    if features:
        places.append(f"features {sha256(' '.join(sorted(features.split())).encode()).hexdigest()[:8]}")
    return ", ".join([name, *places])


def _git(folder: Path) -> dict[str, Any]:
    """Commit of a checkout, and whether what results rest on differs from it; empty for a wheel."""

    def ask(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=False, timeout=10
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        if not ask("ls-files", "--error-unmatch", str(folder / "__init__.py")):
            return {}
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain", "--", *PARTS))}
    except (OSError, subprocess.SubprocessError):
        return {}
