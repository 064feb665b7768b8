"""Lightning's callback: the moving average, the loss curve, the looks at validation peptides."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import lightning

from bgbench_training.recipe import AbstractRecipe


def metric_name(name: str) -> str:
    """A name of a value as trackers take it: `frames/s` is `frames_per_s`, `% of peak` `percent_of_peak`."""
    return name.replace("/", "_per_").replace("%", "percent").replace(" ", "_")


Look = Callable[[Any], Mapping[str, float]]
"""Named values of the averaged network on validation peptides."""


class CheckpointKeys(NamedTuple):
    """What checkpoints call the callback and, in its state, the loss curve."""

    callback: str = "Curves"
    curve: str = "curve"


class Curves(lightning.Callback):
    """Moves the average along, keeps the loss curve, prints a line every `every` steps where no bar is shown.

    `keys` are of old checkpoints, too. A callback, not a hook of the module: those
    run after the checkpoint is written.
    """

    def __init__(
        self,
        recipe: AbstractRecipe,
        look: Look | None,
        keys: CheckpointKeys = CheckpointKeys(),
        every: int = 50,
    ) -> None:
        self.recipe, self.every, self.started = recipe, every, time.perf_counter()
        self.curve: list[tuple[int, float]] = []
        self.looks: list[tuple[int, float | None, dict[str, float]]] = []
        self.before = 0.0
        self._look, self._keys = look, keys
        self._sum, self._passes, self._steps = 0.0, 0, 0

    @property
    def state_key(self) -> str:
        """The callback's name in checkpoints."""
        return self._keys.callback

    @property
    def hours(self) -> float:
        """Hours of training so far, those before a resumption too."""
        return self.before + (time.perf_counter() - self.started) / 3600

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """Average the weights, add up the loss; every so often, write its mean, look at validation."""
        del batch
        self._sum, self._passes = self._sum + float(outputs["loss"]), self._passes + 1
        if (index + 1) % self.recipe.accumulate:
            return
        module.average.update_parameters(module.network)
        step = trainer.global_step
        if step % self.every == 0:
            self._write(trainer, module, step)
        due = step % self.recipe.validate_every == 0 or step == self.recipe.steps
        if self._look is not None and trainer.is_global_zero and due:
            self.looks.append((step, self.hours, dict(self._look(module.averaged.eval()))))
            self._tell(trainer, step, self.looks[-1][2])

    def _write(self, trainer: Any, module: Any, step: int) -> None:
        self.curve.append((step, self._sum / self._passes))
        self._steps += self.every
        rate = self._steps / (time.perf_counter() - self.started)
        frames = rate * self.recipe.batch
        speed = {"frames/s": frames}
        if module.work is not None:
            speed["% of peak"] = module.work.share(frames)
        module.log_dict(speed, prog_bar=True, logger=False)
        values = {"loss": self.curve[-1][1], "steps/s": rate, **speed}
        self._tell(trainer, step, {**values, "hours": self.hours})
        self._sum, self._passes = 0.0, 0

    @staticmethod
    def _tell(trainer: Any, step: int, values: Mapping[str, float]) -> None:
        if trainer.logger is not None:
            trainer.logger.log_metrics({metric_name(name): v for name, v in values.items()}, step)
        if not sys.stderr.isatty() and trainer.is_global_zero:
            text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            sys.stderr.write(f"step {step}: {text}\n")

    def state_dict(self) -> dict[str, Any]:
        """The curves so far."""
        return {self._keys.curve: self.curve, "looks": self.looks, "hours": self.hours}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curves; looks once were kept without their hour."""
        self.curve = list(state_dict[self._keys.curve])
        looks = [tuple(look) for look in state_dict["looks"]]
        self.looks = [(look[0], look[1] if len(look) > 2 else None, look[-1]) for look in looks]
        self.before = float(state_dict["hours"])
