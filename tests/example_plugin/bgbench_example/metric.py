"""The metric: how far the atoms are from the start structure, on average, beside the reference."""

import bgbench


def compute_displacement(case: bgbench.MetricCase) -> dict[str, float]:
    """Difference of the mean distances in nm, and the reference's own as a companion."""
    start, ensemble = case.system.positions, case.estimate.ensemble

    def distances(x):
        return (x.double() - start.double()).norm(dim=-1).mean(1)

    ours = float(ensemble.weights @ distances(ensemble.x))
    truth = float(distances(case.reference.x).mean())
    return {"displacement": abs(ours - truth), "displacement_reference": truth}
