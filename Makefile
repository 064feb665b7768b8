.PHONY: run test slow lint bench entries site
PYTHON ?= python

run:
	bgbench run prose
test:
	pytest
slow:
	pytest -m slow
lint:
	ruff check . && ruff format --check . && mypy
bench:
	pytest benchmarks/speed -m "" -s
entries:
	leaderboard/entries.sh
site:
	bgbench leaderboard validate leaderboard
	bgbench leaderboard build --out site
