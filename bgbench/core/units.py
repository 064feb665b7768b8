"""Units: the only place that converts. Inside bgbench lengths are nm and energies are kT."""

GAS_CONSTANT = 8.31446261815324e-3
"""R in kJ/(mol K), CODATA 2018 (exact)."""


def kt(temperature: float) -> float:
    """Thermal energy RT, by which energies are divided to be in kT.

    Args:
        temperature: in K.

    Returns:
        kJ/mol.

    Raises:
        ValueError: if the temperature is not a positive, finite number.

    >>> round(kt(310.0), 4)
    2.5775
    """
    if not 0.0 < temperature < float("inf"):
        raise ValueError(f"temperature must be a positive number of kelvin, got {temperature}")
    return GAS_CONSTANT * temperature
