.PHONY: run test lint bench
PYTHON ?= python

run:
	bgbench run prose
test:
	pytest
lint:
	ruff check . && ruff format --check . && mypy
bench:
	pytest benchmarks/speed -m "" -s
