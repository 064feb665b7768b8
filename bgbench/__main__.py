"""`python -m bgbench`."""

from bgbench.cli.main import main

main()
