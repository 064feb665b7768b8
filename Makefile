.PHONY: run test slow lint map docs bench entries site
PYTHON ?= python

run:
	bgbench run prose
test:
	$(PYTHON) -m pytest
slow:
	$(PYTHON) -m pytest -m slow
lint:
	$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy
map:
	$(PYTHON) docs/house.py --write
	$(PYTHON) docs/badges.py --write
docs:
	$(PYTHON) docs/house.py
	$(PYTHON) docs/badges.py
	$(PYTHON) -m sphinx -q -W --keep-going -b html docs build/docs
bench:
	$(PYTHON) -m pytest benchmarks/speed -m "" -s
entries:
	leaderboard/entries.sh
site:
	bgbench leaderboard validate leaderboard
	bgbench leaderboard build --out site
