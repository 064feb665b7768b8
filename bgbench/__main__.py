"""`python -m bgbench`."""

from bgbench.cli import main

main()
