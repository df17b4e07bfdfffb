# One environment, `.venv`, made once and used by every target; it is renewed when a dependency changes.

BIN := .venv/bin
READY := .venv/.ready
# One thread a worker: two workers on two cores would only wait for each other's.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

# Every worker and every process that a test starts would compile all sources anew.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.PHONY: help demo test check lint bench bench-secagg bench-dp bench-harmonize bench-models bench-preset bench-equivalence proto docs chaos clean

help:
	@echo 'make demo    six hospitals, real processes, real patients: the whole federation on this machine'
	@echo 'make test    environment, every check and every test except the chaos counts'
	@echo 'make check   lint, types, import contracts, fast tests'
	@echo 'make lint    lint, types and import contracts only'
	@echo 'make bench   the measurements of benchmarks/: bench-secagg, bench-dp, bench-harmonize, bench-models, bench-equivalence and bench-preset'
	@echo 'make proto   generate nodes/proto from federation.proto'
	@echo 'make docs    generate the reference pages that come from the code'
	@echo 'make chaos   the full counts of kills and restarts (long)'

# torch first and alone: it is the one dependency with a build for each kind of machine, and pip must settle on
# one before anything else asks for it.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || python3.11 -m venv .venv || python3 -m venv .venv
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "haemfed needs Python 3.11 or newer")'
	$(BIN)/python -m pip install torch==2.13.0
	$(BIN)/python -m pip install -c constraints.txt -e '.[demo,dev]'
	touch $@

demo: $(READY)
	$(BIN)/haemfed demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# By file: what the tests of a module share is made by one worker, not by both.
check: lint
	$(PYTEST) --dist loadfile -m 'not slow and not chaos' --hypothesis-profile=check

test: lint
	$(PYTEST) -m 'not chaos'

chaos: $(READY)
	$(BIN)/python -m pytest -s -m chaos

bench: bench-secagg bench-dp bench-harmonize bench-models bench-equivalence bench-preset

bench-secagg: $(READY)
	$(BIN)/python -m benchmarks.secagg.run

bench-dp: $(READY)
	$(BIN)/python -m benchmarks.dp.run

bench-harmonize: $(READY)
	$(BIN)/python -m benchmarks.harmonize.run

bench-models: $(READY)
	$(BIN)/python -m benchmarks.models.run

bench-equivalence: $(READY)
	$(BIN)/python benchmarks/equivalence.py

bench-preset: $(READY)
	$(BIN)/python benchmarks/choose_preset.py
	$(BIN)/python -m benchmarks.models.tune

proto: $(READY)
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. nodes/proto/federation.proto

docs: $(READY)
	$(BIN)/python -m nodes.reference docs/reference

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
