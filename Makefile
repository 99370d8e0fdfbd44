# Gatehouse: one verb a target, `make help` lists them. Verbs over projects take SERVICE= (one project) and ARGS= (passed on).
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

projects_first := service-kit auth-service user-service gateway
PROJECTS   := $(projects_first) $(filter-out $(projects_first),$(patsubst %/pyproject.toml,%,$(wildcard */pyproject.toml))) deploy/scaffold/example-service
projects   := $(or $(SERVICE),$(PROJECTS))
# $(call said,NAME,DEFAULT): what the command line or the environment says, else .env, as for compose and `make run`
said = $(strip $(or $($(1)),$(shell sed -nE 's/^[[:space:]]*(export[[:space:]]+)?$(1)[[:space:]]*=//p' .env 2>/dev/null | tail -n 1 | sed -E 's/[[:space:]][\#].*//' | tr -d \"\'),$(2)))
PORT    := $(call said,PORT,8080)
VAR     := $(call said,VAR,var)
PROJECT := $(or $(PROJECT),$(shell deploy/compose/project_name))

UV_VERSION := 0.13.9
export UV := $(or $(shell command -v uv),$(CURDIR)/.tools/uv/bin/uv)
export UV_PYTHON_DOWNLOADS ?= never
# Trust whom this machine trusts, as pip does: behind a company's TLS proxy uv's own list knows nobody.
export UV_SYSTEM_CERTS ?= true
export PORT VAR PROJECT ON

compose := docker compose -p $(PROJECT)
one     := $(UV) run --locked
# $(call each,COMMAND): run it in every project, go on after a failure, name the projects that failed at the end
each = failed=; for project in $(projects); do \
	  [ -f $$project/pyproject.toml ] || { echo "make $(verb): no project named $$project (projects: $(PROJECTS))" >&2; exit 2; }; \
	  printf '\n== %s: %s\n' '$(verb)' $$project; $(call tell,begins); start=$$SECONDS; \
	  (cd $$project && $(1)) && said=passed || { said=FAILED; failed="$$failed $$project"; }; \
	  said="$$said, $$((SECONDS - start)) s"; printf -- '-- %s: %s %s\n' '$(verb)' $$project "$$said"; $(call tell,$$said); \
	done; [ -z "$$failed" ] || { echo "make $(verb): failed in$$failed" >&2; exit 1; }
verb = $(firstword $(subst /, ,$@))
# $(call side_by_side,TARGETS): two at a time, each heard as a whole when it is done (macOS brings a make that cannot,
# and goes one by one). How far each is comes at once, by descriptor 9, which one alone does not have.
side_by_side = $(if $(and $(word 2,$(1)),$(filter output-sync,$(.FEATURES))),$(MAKE) --keep-going --jobs=2 --output-sync=target $(1) 9>&2,$(MAKE) --keep-going $(1))
tell = { printf '%s: %s %s\n' '$(verb)' $$project "$(1)" >&9; } 2>/dev/null || true
# pytest's lines of dots, which end in how many percent are done, and what a run says that it left out
percents = 2>&1 | while IFS= read -r line; do \
	  [[ $$line == *%] || $$line == INCOMPLETE:* ]] && { printf '%s: %s\n' $$project "$$line" >&9; } 2>/dev/null || printf '%s\n' "$$line"; done
# $(call need,NAME,EXAMPLE): one line instead of a stack trace when a variable is missing
need = @[ -n "$($(1))" ] || { echo "make $@: say $(1)=, as in: make $@ $(2)" >&2; exit 2; }
# $(call fits,NAME,PATTERN,WHAT): the same for what a tool would only stumble over
fits = @[[ "$($(1))" =~ ^($(2))$$ ]] || { echo "make $@: $(1)=$($(1)) is not $(3)" >&2; exit 2; }
docker = @docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1 \
	  || { echo "make $@: no docker engine with compose answers (on a bare Debian: bash .ci/engine)" >&2; exit 2; }
# The same before what acts on the containers of PROJECT: says which they are, refuses those of another folder;
# $(call containers,start) also refuses names in .env that nobody reads
define containers
$(docker)
@deploy/compose/acts_on $(1)
$(if $(1),@python3 deploy/embedded/env_file.py)
endef

.PHONY: help
help:  ## show this list
	@echo 'usage: make VERB [SERVICE=project] [ARGS=…]     projects: $(PROJECTS)'
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p; s/^## /\n/p' $(MAKEFILE_LIST) | awk -F'\t' 'NF > 1 {printf "  %-16s %s\n", $$1, $$2; next} {print}'

## Without containers
.PHONY: run test lint fmt lock migrations contract docs bench refresh-check
run: $(UV)  ## run the whole system without containers (PORT=8080 VAR=var, RELOAD=orders: serve its changes)
	@exec python3 deploy/embedded/run.py

test: $(UV)  ## run every test that needs no container
	+@$(call side_by_side,$(patsubst %,test/%,$(filter $(projects),$(longest)) $(filter-out $(longest),$(projects))))
longest := tests-e2e gateway user-service auth-service service-kit  # first, so that none is left alone at the end

test/%: projects = $*
test/%:
	@set -o pipefail; $(call each,$(one) pytest $(if $(filter tests-e2e,$*),harness/tests journeys --system embedded -n 2) $(ARGS) $(percents))

lint: $(UV)  ## check code (ruff, mypy, import rules, migrations), routes, Dockerfiles, scripts, compose files and manifests
	+@$(call side_by_side,$(projects:%=lint/%) $(if $(SERVICE),,lint-rest))

lint/%: projects = $*
lint/%:
	@$(call each,$(one) ruff check . && $(one) ruff format --check . && $(one) mypy \
	  && { ! grep -q '^\[tool.importlinter' pyproject.toml || $(one) lint-imports --no-cache; } \
	  && { [ ! -d src/*/migrations ] || $(one) python -m $${project//-/_}.migrations lint; } \
	  && { [ ! -d routes ] || (cd $(CURDIR) && $(one) --project gateway python -m gateway.agreement $$project); })

lint-rest:
	@$(UV) run --locked --project deploy deploy/lint

fmt: $(UV)  ## format the code and apply ruff's fixes
	@$(call each,$(one) ruff format . && $(one) ruff check --fix-only --quiet .)

lock: $(UV)  ## lock every project again, after a change of dependencies (ARGS=--upgrade for newer versions)
	@$(call each,$(UV) lock $(ARGS))

migrations: $(UV)  ## write a migration, or apply or take it back on DATABASE_URL (ARGS="revision -m TEXT --rev-id 0005_phone_numbers")
	@project=$(or $(SERVICE),user-service); package=$${project##*/}; cd $$project && $(one) python -m $${package//-/_}.migrations $(ARGS)

contract: $(UV)  ## write every service's contract/openapi.json, after a change of its API
	@for project in $(or $(SERVICE),$(foreach project,$(PROJECTS),$(if $(wildcard $(project)/src/*/contract.py),$(project)))); do \
	  package=$${project##*/}; (cd $$project && $(one) python -m $${package//-/_}.contract) || exit; done

docs: $(UV)  ## build the documentation site into deploy/site/html, every link checked
	@cd deploy && REPOSITORY="$(REPOSITORY)" $(one) python site/build.py

bench: $(UV)  ## run a benchmark (SUITE=gateway, auth, users, async or changes; FULL=1: a million users)
	$(call need,SUITE,SUITE=gateway)
	@cd $(or $(SERVICE),$(bench-$(SUITE)),gateway) && $(one) python -m benchmarks $(SUITE) $(if $(FULL),--full) $(ARGS)
bench-auth := auth-service
bench-users := user-service
bench-async := user-service
bench-changes := user-service

refresh-check: $(UV)  ## try the refresh contract on any system and report (URL=http://localhost:8080)
	@cd auth-service && $(one) python tests/refresh_check.py $(or $(URL),http://localhost:$(PORT)) $(ARGS)

## Your own services
.PHONY: service app
scaffold = @python3 deploy/scaffold/create.py
tidy = (cd $(1) && $(one) ruff check --quiet --fix-only --select I . && $(one) ruff format --quiet .)

service: $(UV)  ## create a service behind the gateway, complete and tested (NAME=orders)
	$(call need,NAME,NAME=orders)
	$(scaffold) service "$(NAME)"
	@cd "$(NAME)" && $(UV) lock --quiet
	@$(call tidy,$(NAME)) && $(MAKE) contract SERVICE="$(NAME)"
	@echo "$(NAME) is there: make lint test SERVICE=$(NAME), then make run or make up serves it behind the gateway"

app: $(UV)  ## create a domain package in a service (SERVICE=orders NAME=invoices)
	$(call need,SERVICE,SERVICE=orders NAME=invoices)
	$(call need,NAME,SERVICE=orders NAME=invoices)
	$(scaffold) app "$(SERVICE)" "$(NAME)"
	@$(call tidy,$(SERVICE)) && $(MAKE) contract SERVICE="$(SERVICE)"

## On containers
# The services that are neither healthy nor done
unwell = $(compose) ps --all --format '{{.Service}} {{.Health}} {{.ExitCode}}' | sed -n '/ healthy 0$$/!{/  0$$/!s/ .*//p;}' | sort -u

.PHONY: up roll remove down logs ps test-containers e2e
up:  ## build and start the containers, and wait until they are ready (PORT=8080 PROJECT=the folder's name)
	$(call fits,PORT,[1-9][0-9]*,a port number)
	@[ -z "$(SCALE)" ] || { echo 'make up: SCALE= is gone: how many run of a service is GATEWAY_REPLICAS=, USER_SERVICE_REPLICAS=, … in .env' >&2; exit 2; }
	$(call containers,start)
	@$(compose) port front 8000 >/dev/null 2>&1 || ! (: </dev/tcp/127.0.0.1/$(PORT)) 2>/dev/null \
	  || { echo 'make up: port $(PORT) is in use: choose another with PORT=' >&2; exit 2; }
	@deploy/compose/roll.py up $(SERVICE) \
	  || { echo; $(compose) ps --all; unwell=$$($(unwell)); [ -z "$$unwell" ] || $(compose) logs --tail 15 $$unwell; exit 1; }
	@echo; echo "Gatehouse is up: http://localhost:$(PORT)   API: http://localhost:$(PORT)/docs   stop: make down PROJECT=$(PROJECT)"

roll:  ## replace one service without an unanswered request (SERVICE=user-service; TO=previous: the release of before)
	$(call need,SERVICE,SERVICE=user-service)
	@[[ "$(TO)" =~ ^(previous)?$$ ]] || { echo 'make roll: TO=$(TO) is not previous' >&2; exit 2; }
	$(call containers,start)
	@deploy/compose/roll.py roll $(SERVICE) $(TO:%=--to %)

remove:  ## take a service of yours out of what runs: routes, then containers; its data stays (SERVICE=orders)
	$(call need,SERVICE,SERVICE=orders)
	$(containers)
	@deploy/compose/remove "$(SERVICE)"

down:  ## stop the containers and keep their data
	$(containers)
	@$(compose) down $(ARGS)

logs:  ## follow the logs
	$(containers)
	@$(compose) logs -f $(ARGS) $(SERVICE)

ps:  ## list the containers and their state
	$(containers)
	@$(compose) ps $(ARGS) $(SERVICE)

test-containers: $(UV)  ## run the tests that need the real MySQL and Redis
	$(docker)
	@UV=$(UV) deploy/compose/with-stores $(MAKE) test SERVICE="$(or $(SERVICE),user-service auth-service)" ARGS="-m containers $(ARGS)"

e2e: $(UV)  ## run the end-to-end suites (SUITE=journeys, hostile, failures or load; URL= of a running system; FULL=1)
	@cd tests-e2e && $(one) pytest $(or $(e2e-$(SUITE)),$(SUITE)) --system $(or $(URL),compose) $(if $(FULL),--full) $(ARGS)
e2e-failures := failures skew

## On what runs now: the embedded system on VAR, else the containers of PROJECT (ON=embedded or ON=containers decides)
.PHONY: admin clients keys routes import export seed grants clean
admin:  ## make a registered person an administrator (EMAIL=ada@example.com)
	$(call need,EMAIL,EMAIL=ada@example.com)
	@deploy/exec user-service python -m user_service.cli admin "$(EMAIL)"

clients:  ## list, add or remove OAuth clients (ARGS="add reports --scope orders:read"; ARGS=-h for all commands)
	@deploy/exec auth-service python -m auth_service clients $(or $(ARGS),list)

keys:  ## list the signing keys, rotate or revoke one (ARGS=rotate)
	@deploy/exec auth-service python -m auth_service keys $(or $(ARGS),list)

routes:  ## list the gateway's routes, check them, explain one (ARGS="explain GET /v1/users/me")
	@deploy/exec gateway python -m gateway routes $(or $(ARGS),list)

import:  ## import people from another system (FILE=people.jsonl); rejected rows are kept in FILE.rejected
	$(call need,FILE,FILE=people.jsonl)
	@[ ! -s "$(FILE).rejected" ] || { mv "$(FILE).rejected" "$(FILE).rejected.old"; \
	  echo "the rows that were rejected before are in $(FILE).rejected.old now" >&2; }
	@umask 077; deploy/exec user-service python -m user_service.cli import $(ARGS) - <"$(FILE)" >"$(FILE).rejected"; \
	  code=$$?; if [ -s "$(FILE).rejected" ]; then echo "the rejected rows are in $(FILE).rejected" >&2; \
	  else rm -f "$(FILE).rejected"; fi; exit $$code

export:  ## write the old and the new id of everybody who was imported, as JSON lines (FILE=ids.jsonl)
	$(call need,FILE,FILE=ids.jsonl)
	@umask 077; deploy/exec user-service python -m user_service.cli export >"$(FILE).part" && mv "$(FILE).part" "$(FILE)"

seed:  ## create made-up people, to try out sizes (USERS=1000000)
	$(call need,USERS,USERS=1000000)
	@deploy/exec user-service python -m user_service.cli seed "$(USERS)" $(ARGS)

grants:  ## print the SQL that makes the database users of a service, for a MySQL of your own (SERVICE=user-service SECRETS=folder)
	$(call need,SERVICE,SERVICE=user-service)
	@deploy/compose/make_database --print $$(sed -n 's/^ *command: \[bash, .make_database, \([a-z0-9_]*\)\]$$/\1/p' $(SERVICE)/compose.yaml) \
	  $(SECRETS:%=%/$(SERVICE)-database)

clean:  ## delete VAR, the containers of PROJECT and their data, and every cache
	@! docker compose ls >/dev/null 2>&1 || deploy/compose/acts_on
	@python3 deploy/embedded/run.py clean
	@! docker compose ls >/dev/null 2>&1 || $(compose) down -v --remove-orphans
	@rm -rf .tools $(foreach d,.venv .mypy_cache .pytest_cache .ruff_cache .hypothesis report,$(PROJECTS:%=%/$(d)))
	@find . -name __pycache__ -prune -exec rm -rf {} +

$(CURDIR)/.tools/uv/bin/uv:
	@python3 -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo 'Gatehouse needs Python 3.11 or newer as python3, with pip (on Debian: apt-get install python3-pip)' >&2; exit 1; }
	@echo 'installing uv $(UV_VERSION) into .tools/'
	@python3 -m pip install --quiet --disable-pip-version-check --target .tools/uv uv==$(UV_VERSION)
