.PHONY: run test lint docs bench entries site
PYTHON ?= python

run:
	bgbench run prose
test:
	$(PYTHON) -m pytest
lint:
	$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy
docs:
	$(PYTHON) docs/house.py
	$(PYTHON) -m sphinx -q -W --keep-going -b html docs build/docs
bench:
	$(PYTHON) -m pytest benchmarks/speed -m "" -s
entries:
	leaderboard/entries.sh
site:
	bgbench leaderboard validate leaderboard
	bgbench leaderboard build --out site
