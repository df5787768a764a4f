# Every target sets up what it needs in this checkout; the second time that is quick.
BIN := .venv/bin
INPUTS := pyproject.toml scripts/setup $(wildcard requirements/*.txt)
SOURCES := $(shell git ls-files 'recollect/*' 'memory_store/*' 'server/*' 'clients/*' 'trainer/*' 'models/*' 2>/dev/null)

# Bytecode is kept, whatever the shell says: without it every process compiles torch and vLLM anew, 10 to 15 s of it each time.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo serve test test-full test-clients check bench learn setup lock clean

.venv/.ready: $(INPUTS)
	@scripts/setup all
	@touch $@

.venvs/serve/.ready: $(INPUTS) $(SOURCES)
	@scripts/setup serve
	@touch $@

.venvs/peers/.ready: scripts/setup requirements/peers.txt
	@scripts/setup peers
	@touch $@

.venvs/clients/.ready: scripts/setup $(wildcard requirements/clients/*)
	@scripts/setup clients
	@touch $@

setup: .venv/.ready

demo: .venv/.ready ## The whole loop on the bundled seed model, in one terminal
	$(BIN)/recollect demo $(ARGS)

serve: .venv/.ready ## The server on the bundled seed model (or: make serve ARGS="engine.model=PATH")
	$(BIN)/recollect serve $(ARGS)

test: .venv/.ready .venvs/serve/.ready ## All tests, with small counts
	$(BIN)/python -m pytest -m "not full and not clients" $(ARGS)

test-full: .venv/.ready .venvs/serve/.ready ## All tests, with the counts that take long
	RECOLLECT_TEST_SCALE=20 $(BIN)/python -m pytest -m "not clients" $(ARGS)

test-clients: .venv/.ready .venvs/clients/.ready ## Real clients: openai, anthropic, LangChain, Claude Code, Codex, MCP Inspector (needs node)
	$(BIN)/python -m pytest -m clients tests/clients $(ARGS)

check: .venv/.ready ## Lint, format, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: .venv/.ready .venvs/peers/.ready ## Figures of docs/benchmarks.md
	$(BIN)/python -m benchmarks $(ARGS)

learn: .venv/.ready ## Three seeds of training, with confidence intervals
	$(BIN)/recollect learn $(ARGS)

lock: .venv/.ready ## Pin the requirements again, with hashes
	scripts/lock

clean:
	rm -rf .venv .venvs .recollect build dist
