# On a fresh machine with Python 3.11 or newer, git and make:
#   make demo     environment, then the demo's report
#   make test     environment, then all tests that need no special hardware
# PYTHON=python3.12 chooses the Python of the environment; PIP_FLAGS are handed to pip.

PYTHON ?= python3
PIP_FLAGS ?=
# Programs are run as modules: the scripts in there cannot start from a path with a dollar.
BIN = .venv/bin

.PHONY: demo test test-cluster check bench bench-full bench-check coverage docs screenshots fuzz torture simulated lock clean full-size backends sessions timeline

demo: .venv/run-export.done
	$(BIN)/python -m snakemake --cores all --directory demo reports/retinamask.html
	@cat demo/reports/retinamask.txt
	@echo "to be looked at: demo/reports/retinamask.html"

test: .venv/test.done
	$(BIN)/python -m pytest tests -n 2 --dist loadfile

# A Slurm of two nodes on this machine: needs root and Debian's slurm-wlm and munge. Its executor is kept apart, because
# with it Snakemake asks Slurm on every start.
test-cluster: .venv/slurm.done
	PYTHONPATH=$(CURDIR)/.venv/slurm DETPORT_CLUSTER_TESTS=1 $(BIN)/python -m pytest tests/cluster

check: .venv/test.done
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m snakefmt --check Snakefile rules
	$(BIN)/python -m snakemake --lint

bench: .venv/run-export.done  # claims about speed, measured side by side: four minutes on one core
	PYTHONPATH=scripts $(BIN)/python bench/claims.py

bench-full: .venv/run-export.done  # the slow ones as well: half an hour on 2 cores
	PYTHONPATH=scripts $(BIN)/python bench/claims.py --full

bench-check: .venv/run-export.done  # four minutes or more; fails where more than a fifth of a committed ratio is lost
	PYTHONPATH=scripts $(BIN)/python bench/claims.py --check

coverage: .venv/run-export.done  # how often intervals cover the truth: 3 minutes on one core
	PYTHONPATH=scripts $(BIN)/python bench/intervals.py
	PYTHONPATH=scripts $(BIN)/python bench/intervals.py --say

FUZZ_RUNS ?= 20000

fuzz: .venv/test.done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) atheris
	$(BIN)/python -c "import sys; sys.path[:0] = ['scripts', 'tests/fuzz']; import targets; print(*targets.TARGETS, sep='\n')" \
	| while read -r target; do \
	    $(BIN)/python tests/fuzz/fuzz.py "$$target" -runs=$(FUZZ_RUNS) -timeout=10 -rss_limit_mb=4096 </dev/null || exit 1; done

TORTURE_CASES ?= 200

torture: .venv/test.done  # changes x ways to end x stages, against runs from nothing: a quarter of a minute each on 2 cores
	PYTHONPATH=scripts $(BIN)/python tests/torture/torture.py --cases $(TORTURE_CASES)

simulated: .venv/test.done  # the whole demo on simulated Ascend chips with every runner: about a quarter of an hour on 2 cores
	PYTHONPATH=scripts:tests/ascend $(BIN)/python tests/ascend/every_runner.py

MODEL ?= retinamask
full-size: .venv/run-export.done  # one image at the published size through every stage: half a minute to 2 minutes on 2 cores
	PYTHONPATH=scripts $(BIN)/python bench/full_size.py $(MODEL)

COMPILED ?= demo/results/retinamask/onnxruntime/model.onnx
sessions: .venv/run-export.done  # ONNX Runtime's settings side by side on a compiled model
	PYTHONPATH=scripts $(BIN)/python bench/sessions.py $(COMPILED)

DIRECTORY ?= demo
timeline: .venv/run-export.done  # the last run in a working directory, as a page
	$(BIN)/python scripts/timeline.py --directory $(DIRECTORY) --output $(DIRECTORY)/reports/timeline.html

BACKENDS ?= onnxruntime openvino openvino_bf16
backends: .venv/run-export.done  # the model on several backends side by side at the published size: 2 to 10 minutes
	PYTHONPATH=scripts $(BIN)/python bench/backends.py $(MODEL) $(BACKENDS)

docs: .venv/run-export.done
	$(BIN)/python docs/tables.py

screenshots: .venv/test.done  # the README's pictures, from the demo's pages; needs chromium
	$(BIN)/python -m snakemake --cores all --directory demo
	$(BIN)/python docs/screenshots.py

lock:
	$(PYTHON) envs/lock.py

clean:
	rm -rf .venv demo/results demo/reports demo/shards demo/logs demo/benchmarks demo/.snakemake

# With a C compiler, preprocessing gets loops of its own; without one it takes longer, and nothing else changes.
.venv/run-export.done: envs/run.txt envs/export.txt scripts/build.py scripts/detport/loops.c
	$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('detport needs Python 3.11 or newer; set PYTHON=')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -r envs/run.txt -r envs/export.txt
	$(BIN)/python scripts/build.py
	touch $@

.venv/test.done: .venv/run-export.done envs/test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -r envs/test.txt
	touch $@

.venv/slurm.done: .venv/test.done envs/slurm.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) --no-deps --upgrade --target .venv/slurm -r envs/slurm.txt
	touch $@
