"""A cell: what determines one result."""

from pydantic import Field

from bgbench.core.files import Strict, digest


class Cell(Strict):
    """What determines a result, before versions and hashes."""

    sampler: str
    estimator: str
    protocol: str
    suite: str
    system: str
    budget: int = Field(ge=1)
    seed: int = Field(ge=0)
    temperature: float
    energy: str
    options: dict[str, str] = {}
    estimator_options: dict[str, str] = {}

    @property
    def name(self) -> str:
        """File-safe name of the cell inside its run."""
        return f"{self.system.replace(':', '_')}-s{self.seed}"

    @property
    def sha256(self) -> str:
        return digest(self.model_dump())
