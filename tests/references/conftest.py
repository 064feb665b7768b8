"""Files of references as they were before certificates stood beside them."""

import json

import numpy as np
import pytest

from bgbench.references.certificates import certificate_path, read_certificate


@pytest.fixture
def as_older():
    """Rewrites a reference as older files are, with its certificate inside, and changes entries of that."""

    def rewrite(path, **entries):
        certificate = {**read_certificate(path), **entries}
        with np.load(path) as stored:
            arrays = {**dict(stored), "certificate": np.array(json.dumps(certificate))}
        np.savez_compressed(path, **arrays)
        certificate_path(path).unlink(missing_ok=True)
        return path

    return rewrite
