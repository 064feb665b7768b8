"""Which files hold samples, and what else is known of them."""

from dataclasses import dataclass
from pathlib import Path

import bgbench

ENDINGS = (".xtc", ".dcd", ".npz", ".h5", ".pdb")
"""Endings of files of samples, in the order in which a folder is searched."""

OWN_ORDER = "system"
"""`top=system`: the atoms stand in bgbench's own order."""


@dataclass(frozen=True)
class SampleOptions:
    """Options of `samples`, and the files that they name.

    A folder holds a file for each system, named after it: `AA.xtc` with `AA.pdb`, or `AA.npz`.
    """

    file: Path
    """Samples of one system (.xtc, .dcd, .npz, .h5, .pdb), or a folder with a file SEQ.* for each."""
    top: str = ""
    """A .pdb or .h5 file that names the atoms, or a folder of them; system: atoms are in bgbench's order."""
    log_q: Path | None = None
    """log-densities of the samples (.npy, or .npz with an array log_q), or a folder of them."""
    weights: Path | None = None
    """Weights of the samples (.npy, or .npz with an array weights or log_w), or a folder of them."""
    name: str = ""
    """What records call the sampler that made them."""

    def __post_init__(self) -> None:
        if self.log_q is not None and self.weights is not None:
            raise bgbench.BgbenchError(
                "weights exclude log_q, from which weights would follow: set one of them"
            )
        for path in self.paths:
            if not path.exists():
                raise bgbench.BgbenchError(f"file {path} does not exist; name a file or a folder that does")

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files and folders that are named."""
        top = None if self.top in ("", OWN_ORDER) else Path(self.top)
        return tuple(path for path in (self.file, top, self.log_q, self.weights) if path is not None)

    def files(self) -> list[Path]:
        """All files that can hold samples or belong to them, of every system."""
        return sorted(
            {
                file
                for path in self.paths
                for file in (path.iterdir() if path.is_dir() else [path])
                if file.is_file() and not file.name.startswith(".")
            }
        )

    def trajectory(self, system: bgbench.System) -> Path:
        """The file of a system's samples.

        Raises:
            Unsupported: if the folder has none.
            BgbenchError: if it has several.
        """
        if not self.file.is_dir():
            return self.file
        stem = stem_of(system)
        present = [self.file / f"{stem}{ending}" for ending in ENDINGS]
        present = [path for path in present if path.is_file()]
        others = [path for path in present if path.suffix != ".pdb"]
        if len(others) > 1:
            names = " and ".join(path.name for path in others)
            raise bgbench.BgbenchError(f"{self.file} holds {names}: leave one of them")
        if not present:
            wanted = f"{stem}.xtc, .dcd, .npz, .h5 or .pdb"
            raise bgbench.Unsupported(f"there is no {wanted} in {self.file}")
        return (others or present)[0]

    def topology(self, system: bgbench.System, trajectory: Path) -> Path | None:
        """The file that names the atoms of a trajectory; None where it does that itself.

        Raises:
            BgbenchError: if a folder of topologies has none of the system.
        """
        if self.top == OWN_ORDER:
            return None
        folder = Path(self.top) if self.top else self.file
        if not folder.is_dir():
            return folder if self.top else None
        beside = [folder / f"{stem_of(system)}{ending}" for ending in (".pdb", ".h5")]
        beside = [path for path in beside if path.is_file() and path != trajectory]
        if self.top and not beside:
            raise bgbench.BgbenchError(f"there is no {stem_of(system)}.pdb or .h5 in {folder}")
        return beside[0] if beside else None

    def numbers(self, kind: str, system: bgbench.System) -> Path | None:
        """The file of the log_q or the weights of a system's samples; None where none was named.

        Raises:
            BgbenchError: if a folder has none of the system.
        """
        path = self.log_q if kind == "log_q" else self.weights
        if path is None or not path.is_dir():
            return path
        stem = stem_of(system)
        names = (f"{stem}.{kind}.npy", f"{stem}.{kind}.npz", f"{stem}.npy", f"{stem}.npz")
        present = [path / name for name in names if (path / name).is_file()]
        if not present:
            raise bgbench.BgbenchError(f"there is no {names[0]} or {names[-1]} in {path}")
        return present[0]


def stem_of(system: bgbench.System) -> str:
    """What files of a system are called: its name, with the colon of a registered one as an underscore."""
    return system.name.replace(":", "_")
