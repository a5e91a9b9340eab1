# Every chore has one word; `make` prints them. Needs a POSIX system, make and Python 3.11 or newer.
# PYTHON=…       the interpreter to make the environment with (default: the first one that is new enough)
# PYTEST_ARGS=…  more arguments for pytest, e.g. PYTEST_ARGS='-k purge'
# MINUTES=…      how long `make prove` plays episodes after the long tests
# WORKERS=…      how many test processes, each with a Postgres of its own (default: one more than there are cores, at most 5)

VENV ?= .venv
VENV_DBT ?= .venv-dbt
VENV_AIRFLOW ?= .venv-airflow
PYTHON ?=
PYTEST_ARGS ?=
# Many tests wait for others, so one more than there are cores.
WORKERS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); test "$$cores" -lt 4 && echo $$((cores + 1)) || echo 5)
MINUTES ?= 5

UV := $(shell command -v uv 2>/dev/null)
# An environment works only where it was made and with the installer that made it: both are in the stamps' names.
HERE := made-$(shell echo '$(CURDIR) $(UV)' | cksum | cut -d ' ' -f 1)
MADE := $(VENV)/$(HERE)
READY := $(MADE)-ready
CLIENTS := $(MADE)-clients
SITE := $(MADE)-site
DBT := $(VENV_DBT)/$(HERE)
AIRFLOW := $(VENV_AIRFLOW)/$(HERE)
BIN := $(VENV)/bin
# Tests with random rounds: few in make test, many in make prove.
LONG := tests/scenarios/test_convergence.py tests/scenarios/test_daily_aggregates.py \
  tests/cli/test_commands.py::test_a_backfill_that_is_killed_again_and_again_ends_equal \
  tests/sql/test_views.py::test_readers_are_never_in_the_way_nor_kept_waiting
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# Into the environment that the stamp $@ lies in.
ifneq ($(UV),)
# uv stops where its cache can't be written: there, without a home, say, it does without one.
UV_CACHE = $$(cache=$$($(UV) cache dir 2>/dev/null) && mkdir -p "$$cache" 2>/dev/null && test -w "$$cache" || echo --no-cache)
INSTALL = UV_LINK_MODE=copy $(UV) pip install --quiet $(UV_CACHE) --python $(@D)/bin/python
else
INSTALL = $(@D)/bin/python -m pip --quiet --no-input --disable-pip-version-check install --no-compile
endif

# Cache byte code in build/pycache, even if PYTHONDONTWRITEBYTECODE is set: tests start hundreds of commands.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache

.PHONY: help setup demo test check fast prove bench dist test-clients client-programs test-orchestrators docs site pins clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY) ## .venv with the pinned packages and the command .venv/bin/aims360-etl
	@:

demo: setup ## a pretend AIMS360, mirrored into an embedded Postgres in .aims360/
	@env -u DATABASE_URL AIMS360_DATA_DIR=.aims360 $(BIN)/aims360-etl demo

test: setup ## all tests
	@$(PYTEST) $(PYTEST_ARGS)

check: setup ## what CI runs: ruff, mypy --strict, import-linter, all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(PYTEST) $(PYTEST_ARGS)

fast: setup ## the quick tests, up to the first failure
	@$(PYTEST) -x -m "not slow" $(PYTEST_ARGS)

prove: setup ## tries long to break the mirror: model-based tests, then episodes for MINUTES
	@HYPOTHESIS_PROFILE=long $(PYTEST) --timeout 3600 $(LONG) $(PYTEST_ARGS)
	@AIMS360_DATA_DIR=.aims360 $(BIN)/aims360-etl prove --minutes $(MINUTES)

bench: setup ## what each command costs, against floors of the same run; SCALE=0.05 for a small one
	@$(BIN)/python -m tests.bench

dist: setup ## dist/*.tar.gz and dist/*.whl, proven: installed afresh and run from an empty folder
	@$(BIN)/python tests/tools/check_distributions.py

test-clients: client-programs $(READY) $(CLIENTS) $(DBT) ## schema bi through ODBC, JDBC, pandas, dbt and a browser; Prometheus, systemd, the image; installs what it may
	@DBT='$(CURDIR)/$(VENV_DBT)/bin/dbt' $(BIN)/python -m pytest -n 0 --timeout 600 tests/clients $(PYTEST_ARGS)

client-programs:
	@sh tests/clients/programs.sh

test-orchestrators: $(READY) $(AIRFLOW) ## the DAG of docs/orchestrate.md, run by an Airflow in an environment of its own
	@AIRFLOW='$(CURDIR)/$(VENV_AIRFLOW)/bin/airflow' $(BIN)/python -m pytest -n 0 --timeout 1200 tests/orchestrators $(PYTEST_ARGS)

docs: setup ## what is written from the code: docs/views.md, settings.md, commands.md, and sql/contract.txt
	@$(BIN)/python -m tests.tools.write_docs

site: $(SITE) ## site/index.html: the pages of docs/, to be read without a network
	@rm -rf site
	@$(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going -c docs --doctree-dir build/doctrees . site
	@echo "site/index.html"

# From 1.12 on dbt needs a parser that its package downloads from elsewhere while it is installed.
DBT_WANTED := dbt-core>=1.10,<1.12 dbt-postgres>=1.9
AIRFLOW_WANTED := apache-airflow>=3.3,<4
COMPILE = $(UV) pip compile --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
  --no-annotate --no-header --no-emit-index-url --no-config --upgrade --quiet

pins: ## pins.txt anew, with the newest versions that pyproject.toml allows, those of tests/ and docs/ too (needs uv)
	@test -n "$(UV)" || { echo "make pins needs uv: pip install uv"; exit 1; }
	@{ echo "# The versions that were tested, for every platform. Made by make pins; make setup installs them."; \
	   $(COMPILE) pyproject.toml --extra dev; \
	} > pins.txt.new && mv pins.txt.new pins.txt
	@{ echo "# What the image installs: pins.txt with no extra but the fleet's. Made by make pins."; \
	   $(COMPILE) pyproject.toml --extra fleet -c pins.txt; \
	} > deploy/pins.txt.new && mv deploy/pins.txt.new deploy/pins.txt
	@{ echo "# What builds the wheel of the image, as in pins.txt. Made by make pins."; \
	   echo hatchling | $(COMPILE) - -c pins.txt; \
	} > deploy/pins-build.txt.new && mv deploy/pins-build.txt.new deploy/pins-build.txt
	@{ echo "# What the clients need beside pins.txt. Made by make pins; make test-clients installs them."; \
	   $(COMPILE) pyproject.toml --extra clients -c pins.txt \
	     $$(sed -n 's/^\([a-z0-9][a-z0-9._-]*\).*==.*/--no-emit-package \1/p' pins.txt); \
	} > tests/clients/pins.txt.new && mv tests/clients/pins.txt.new tests/clients/pins.txt
	@{ echo "# What makes the site, beside pins.txt. Made by make pins; make site installs them."; \
	   $(COMPILE) pyproject.toml --extra docs -c pins.txt \
	     $$(sed -n 's/^\([a-z0-9][a-z0-9._-]*\).*==.*/--no-emit-package \1/p' pins.txt); \
	} > docs/pins.txt.new && mv docs/pins.txt.new docs/pins.txt
	@{ echo "# dbt, which has an environment of its own. Made by make pins; make test-clients installs them."; \
	   echo '$(DBT_WANTED)' | tr ' ' '\n' | $(COMPILE) - --no-strip-extras; \
	} > tests/clients/dbt-pins.txt.new && mv tests/clients/dbt-pins.txt.new tests/clients/dbt-pins.txt
	@{ echo "# Airflow, which has an environment of its own. Made by make pins; make test-orchestrators installs them."; \
	   echo '$(AIRFLOW_WANTED)' | $(COMPILE) -; \
	} > tests/orchestrators/pins.txt.new && mv tests/orchestrators/pins.txt.new tests/orchestrators/pins.txt

clean: ## removes what make made, the demo's database too
	@if test -e .aims360 -a -x $(BIN)/python; then \
	   $(BIN)/python -c 'from pathlib import Path; from etl.postgres import embedded; embedded.remove(Path(".aims360"))'; fi
	@rm -rf .aims360 $(VENV) $(VENV_DBT) $(VENV_AIRFLOW) dist build site .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Sets $$python to a Python that is new enough, or says what is missing.
define find_python
python=; \
for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 python); do \
  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
    python=$$candidate; break; fi; \
done; \
if test -z "$$python"; then \
  echo "make setup needs Python 3.11 or newer: install it, or name it with make PYTHON=/path/to/python3" >&2; exit 1; \
fi
endef

# Makes the environment that the stamp $@ lies in, unless only its pins are new.
define make_environment
$(find_python); \
echo "setup: $(@D) with $$("$$python" --version), $(if $(UV),uv,pip)"; \
if test ! -e $@; then rm -rf $(@D); \
  if test -n "$(UV)"; then $(UV) venv --quiet --no-project $(UV_CACHE) --python "$$python" $(@D); \
  elif "$$python" -c 'import ensurepip, venv' 2>/dev/null; then "$$python" -m venv $(@D); \
  else echo "this Python can't make environments: apt-get install python3-venv, or install uv" >&2; exit 1; \
  fi; \
fi
endef

$(MADE): pins.txt
	@$(make_environment)
	@$(INSTALL) --require-hashes -r pins.txt
	@touch $@

$(READY): $(MADE) pyproject.toml etl/__init__.py
	@$(INSTALL) --no-deps --no-index --no-build-isolation --editable .
	@touch $@

# Without what they need in turn: pins.txt has that already.
$(CLIENTS): $(READY) tests/clients/pins.txt
	@$(INSTALL) --no-deps --require-hashes -r tests/clients/pins.txt
	@touch $@

$(SITE): $(READY) docs/pins.txt
	@$(INSTALL) --no-deps --require-hashes -r docs/pins.txt
	@touch $@

$(DBT): tests/clients/dbt-pins.txt
	@$(make_environment)
	@$(INSTALL) --require-hashes -r tests/clients/dbt-pins.txt
	@touch $@

$(AIRFLOW): tests/orchestrators/pins.txt
	@$(make_environment)
	@$(INSTALL) --require-hashes -r tests/orchestrators/pins.txt
	@touch $@
