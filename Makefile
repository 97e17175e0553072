# `make up` and `make test` are the two commands; `make help` lists the rest.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

PYTHON ?= python3
BIN := .venv/bin
PROTOS := $(wildcard proto/jitaccess/v1/*.proto)
STAMP := .venv/.installed
NODE_STAMP := clients/typescript/node_modules/.installed
OIDC_STAMP := tests/oidc/node_modules/.installed
CONSOLE_STAMP := clients/console/node_modules/.installed
SECONDS ?= 600
BENCH := .data/bench/venv
BENCH_STAMP := $(BENCH)/.installed
RELEASE := .data/release/venv
RELEASE_STAMP := $(RELEASE)/.installed
DOCS := .data/docs
DOCS_STAMP := $(DOCS)/venv/.installed
# What draws the pictures of the site; the sum is that of the registry's tarball.
MERMAID := mermaid-11.17.2
MERMAID_SHA512 := 57a2b70bc101744b0f1595d228c25eea9a50384371b87011afd1af1d7e21878ee501b84c443f6a7f8a042bb2e869143150b31af34feab798073bbdda0a578106

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements/dev.txt pyproject.toml clients/python/pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing hash-locked requirements into .venv ..." >&2
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e clients/python -e .
	@touch $@

# The packages of the TypeScript client, of the console and of the tests' OpenID provider, each by its own lock.
$(NODE_STAMP) $(CONSOLE_STAMP) $(OIDC_STAMP): %/node_modules/.installed: %/package.json %/package-lock.json
	@if command -v npm >/dev/null; then \
	  echo "installing locked packages into $*/node_modules ..." >&2; \
	  cd $* && npm ci --silent --ignore-scripts && touch node_modules/.installed; fi

setup: $(STAMP) ## Create .venv from the locks.

third_party: $(STAMP) ## Copy google/api and google/rpc from the installed package, for buf.
	@$(BIN)/python tools/third_party.py

up: $(STAMP) ## Run the service behind Envoy on SQLite, with development tokens.
	@exec $(BIN)/jit-service up --dev --data-dir .data

demo: $(STAMP) ## Walk through the product: ask, approve, check, revoke, verify.
	@$(BIN)/python tools/demo.py

protect-demo: $(STAMP) ## Put an API under just-in-time control: closed, asked for, open, revoked, closed.
	@$(BIN)/python tools/protect_demo.py

test: $(STAMP) $(NODE_STAMP) $(CONSOLE_STAMP) $(OIDC_STAMP) ## Run the whole test suite.
	@$(BIN)/python -m pytest $(ARGS)

test-fast: $(STAMP) ## Run the tests of domain, check and client: no Envoy, no PostgreSQL, short walks of the machines.
	@EXAMPLES=$${EXAMPLES:-10} $(BIN)/python -m pytest tests/domain tests/naming tests/check tests/client -k "not postgresql" $(ARGS)

properties: $(STAMP) ## Try each property with TIMES (20) as many examples as the whole suite does.
	@TIMES=$(or $(TIMES),20) $(BIN)/python -m pytest --timeout 3600 $$(grep -rl "from tests.examples import" tests --include="test_*.py") $(ARGS)

machines: $(STAMP) ## Walk the state machines by EXAMPLES (200) each, with a new seed: the domain and both databases beside the model, and to sown bugs.
	@EXAMPLES=$(or $(EXAMPLES),200) $(BIN)/python -m pytest --timeout 3600 tests/domain/grants/test_grant_machine.py \
	  tests/domain/grants/test_lifecycle_machine.py tests/storage/test_lifecycle_machine.py tests/storage/test_past_machine.py \
	  tests/storage/test_machine_sown_bugs.py $(ARGS)

authzen: $(STAMP) ## Run AuthZEN's certification scenario, and write its results into docs/authzen.md.
	@$(BIN)/python tools/conformance.py

test-native: $(STAMP) $(NODE_STAMP) $(CONSOLE_STAMP) $(OIDC_STAMP) ## Run the whole test suite on the transport pygrpc-native.
	@JIT_TRANSPORT=native $(BIN)/python -m pytest $(ARGS)

fuzz: $(STAMP) ## Fuzz all of REST through Envoy for SECONDS (600), with a new seed; the report is in .data/fuzz.
	@FUZZ_SECONDS=$(SECONDS) FUZZ_DIRECTORY=.data/fuzz $(BIN)/python -m pytest -n 0 tests/openapi/test_fuzz.py -k internal

soak: $(STAMP) ## Run all of it under load and kill -9 for SECONDS (600), by SEED, at RATE calls a second; the result is in .data/soak.
	@$(BIN)/python -m tests.soak --seconds $(SECONDS) --transport $(or $(TRANSPORT),grpcio) \
	  --database $(or $(DATABASE),sqlite) $(if $(SEED),--seed $(SEED)) $(if $(PUBLISH),--publish) \
	  $(if $(RATE),--rate $(RATE)) $(if $(NEW),--new $(NEW)) $(if $(PAUSES),--pauses $(PAUSES))

cluster: $(STAMP) ## Fail over a PostgreSQL cluster under three hosts of the service, by SEED, for SECONDS at least, or PART=K/N of the faults; writes docs/reliability.md.
	@$(BIN)/python -m tests.reliability cluster --publish $(if $(filter command,$(firstword $(origin SECONDS))),--seconds $(SECONDS)) \
	  $(if $(SEED),--seed $(SEED)) $(if $(PART),--part $(PART))

faults: $(STAMP) ## Break what one host stands on (disks, clocks, processes, DATABASE=postgresql), by SEED, or PART=K/N of them; writes docs/reliability.md.
	@$(BIN)/python -m tests.reliability faults --publish --database $(or $(DATABASE),sqlite) $(if $(SEED),--seed $(SEED)) $(if $(PART),--part $(PART))

kill: $(STAMP) ## kill -9 the service under load, by SEED, COUNT times (300 on SQLite, 100 on DATABASE=postgresql); writes docs/reliability.md.
	@$(BIN)/python -m tests.reliability kill --publish --database $(or $(DATABASE),sqlite) $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED))

rolling: $(STAMP) ## Restart three hosts behind one Envoy in turn under 64 callers, on DATABASE=postgresql or sqlite; writes docs/reliability.md.
	@$(BIN)/python -m tests.reliability rolling --publish --database $(or $(DATABASE),postgresql)

cluster-packages: ## Install Debian's PostgreSQL, Patroni, etcd, HAProxy and PgBouncer, for `make cluster`; needs root.
	@apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
	  postgresql patroni etcd-server haproxy pgbouncer iproute2 >/dev/null

floods: $(STAMP) ## Measure what one caller can make all others carry (docs/limits.md); the result is in .data/floods.
	@$(BIN)/python -m tests.floods --output .data/floods/result.json

mutants: $(STAMP) ## Change the domain one thing at a time and see that tests notice; MODULES="decision grants"; goes on where it was stopped.
	@$(BIN)/python tools/mutants.py $(MODULES) $(ARGS)

browser: ## Install Debian's chromium without windows, for the tests of the console and of the page /docs; needs root.
	@{ command -v chromium-headless-shell && command -v chromedriver; } >/dev/null || { apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium-headless-shell chromium-driver >/dev/null; }

postgresql: ## Install Debian's PostgreSQL and PgBouncer, for the tests with TLS, a pooler, an older version; needs root.
	@test -d /usr/lib/postgresql -a -x /usr/sbin/pgbouncer || { apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql pgbouncer >/dev/null; }

lint: $(STAMP) $(NODE_STAMP) $(CONSOLE_STAMP) third_party ## ruff, mypy --strict, import-linter, buf lint and breaking, generated files fresh.
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint proto
	$(BIN)/buf breaking proto --against proto/released.binpb
	$(BIN)/python tools/generate.py --check

hooks: ## Have git run `make lint` before each commit of this clone.
	@git config core.hooksPath .githooks

format: $(STAMP) ## Format the Python code.
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --fix --quiet .

proto: $(STAMP) $(NODE_STAMP) $(CONSOLE_STAMP) ## Generate the code, the descriptor set, OpenAPI and the reference; build the console.
	@$(BIN)/python tools/generate.py

release-contract: $(STAMP) third_party ## Take today's protos as the released contract for `buf breaking`.
	@$(BIN)/buf build proto -o proto/released.binpb

lock: $(STAMP) ## Refresh requirements/*.txt within the bounds of pyproject.toml.
	@$(BIN)/python tools/lock.py

$(BENCH_STAMP): requirements/bench.txt
	@test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	@echo "installing hash-locked requirements into $(BENCH) ..." >&2
	@$(BENCH)/bin/pip install -qq --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

bench: $(STAMP) $(BENCH_STAMP) ## Measure everything on a quiet machine, in about four hours; ARGS="--seconds 60" shortens; writes docs/benchmarks.md.
	@PYTHONPATH=.:clients/python $(BENCH)/bin/python -m bench run $(ARGS)

bench-quick: $(STAMP) $(BENCH_STAMP) ## Measure the core of it in about eight minutes, two of them at saturation; writes into .data/bench/quick only.
	@PYTHONPATH=.:clients/python $(BENCH)/bin/python -m bench run --quick $(ARGS)

capacity: $(STAMP) $(BENCH_STAMP) ## Measure what grants, replicas, watchers and a long audit log cost, and write docs/capacity.md, in about half an hour and 20 GB.
	@PYTHONPATH=.:clients/python $(BENCH)/bin/python -m bench.capacity $(ARGS)

bench-report: $(STAMP) $(BENCH_STAMP) ## Make summary, pictures and page again from the rows in bench/results.
	@PYTHONPATH=.:clients/python $(BENCH)/bin/python -m bench report $(ARGS)

$(RELEASE_STAMP): requirements/release.txt
	@test -x $(RELEASE)/bin/python || $(PYTHON) -m venv $(RELEASE)
	@$(RELEASE)/bin/pip install -qq --disable-pip-version-check --require-hashes -r requirements/release.txt
	@touch $@

release: $(STAMP) $(RELEASE_STAMP) third_party ## Build wheels, sdists, contract, bill of materials and sums of a clean commit into dist/.
	@$(BIN)/python tools/release.py

wheels: $(STAMP) ## Build both wheels of this tree into dist/, with the locked requirements and sums.
	@$(BIN)/python tools/wheels.py

chart-tools: $(STAMP) ## Install Helm as a library and the schemas of Kubernetes into .venv (350 MB), for the tests of deploy/helm.
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements/chart.txt

image: wheels ## Build the image jit-access:VERSION from the wheels, by podman or buildah; BASE=IMAGE takes another base image.
	@set -e; builder=$$(command -v podman || command -v buildah) || { echo "make image: there is neither podman nor buildah; install Debian's package buildah" >&2; exit 1; }; \
	  version=$$(ls dist/jit_service-*.whl | cut -d- -f2); \
	  $$builder build --format docker --file deploy/Containerfile $(if $(BASE),--build-arg BASE=$(BASE)) $(IMAGE_ARGS) --tag jit-access:$$version .

release-try: ## Install what is in dist/ into a new environment without the repository, and walk the demo with it.
	@cd dist && sha256sum --check --quiet SHA256SUMS
	@rm -rf .data/release/try && $(PYTHON) -m venv .data/release/try
	@.data/release/try/bin/pip install -qq --disable-pip-version-check --require-hashes -r dist/jit_service-*.requirements.txt
	@.data/release/try/bin/pip install -qq --disable-pip-version-check --no-deps dist/*.whl
	@.data/release/try/bin/jit --help >/dev/null
	@cd .data/release/try && bin/python $(CURDIR)/tools/demo.py

$(DOCS_STAMP): requirements/docs.txt
	@test -x $(DOCS)/venv/bin/python || $(PYTHON) -m venv $(DOCS)/venv
	@echo "installing hash-locked requirements into $(DOCS)/venv ..." >&2
	@$(DOCS)/venv/bin/pip install -qq --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@touch $@

$(DOCS)/$(MERMAID).min.js:
	@mkdir -p $(DOCS) && cd $(DOCS) && npm pack --silent $(subst mermaid-,mermaid@,$(MERMAID)) >/dev/null
	@cd $(DOCS) && echo "$(MERMAID_SHA512)  $(MERMAID).tgz" | sha512sum --check --quiet
	@tar -xzOf $(DOCS)/$(MERMAID).tgz package/dist/mermaid.min.js >$@ && rm $(DOCS)/$(MERMAID).tgz

# Not --quiet: it drops the warnings before --strict counts them.
docs: $(DOCS_STAMP) $(DOCS)/$(MERMAID).min.js ## Build the site of the documents into site/; a link that leads nowhere fails.
	@NO_MKDOCS_2_WARNING=1 MERMAID=$(DOCS)/$(MERMAID).min.js $(DOCS)/venv/bin/mkdocs build --strict

clean: ## Remove what was built and the development data.
	rm -rf .venv third_party .data dist site clients/*/node_modules clients/typescript/build tests/oidc/node_modules

.PHONY: help setup third_party up demo protect-demo test test-fast properties machines authzen test-native fuzz soak cluster cluster-packages faults kill rolling floods mutants browser postgresql lint hooks format proto \
  release-contract lock bench bench-quick capacity bench-report wheels image chart-tools release release-try docs clean
