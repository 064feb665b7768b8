"""Errors that are a user's to mend: one clear line each, never a traceback."""


class BgbenchError(Exception):
    """What was wrong, with the value, and what to do next. The command line prints it and exits 2."""


class BudgetExhausted(Exception):
    """An evaluation would have passed the energy budget. Nothing of it was evaluated or charged."""


class Unsupported(Exception):
    """The sampler says that it cannot sample this system, and why."""


class BrokenContract(Exception):
    """A plugin did what none may: changed something global, printed, gave another system's samples."""


class NonFinite(Exception):
    """Nothing usable came out: every energy, density or weight was infinite or NaN."""
