"""Speed is measured as ratios against a named reference in the same run; run with `-m "" -s`."""


def pytest_xdist_auto_num_workers():
    """What is timed runs alone."""
    return 0
