# make demo: set up an environment and run the whole path; make test: set up and run the tests; make check: lint and types.
PYTHON ?= python3
VENV := .venv
# Test files are shared out to so many processes, each with one thread.
WORKERS ?= 2
# What the tests need: every engine that runs or builds without a GPU.
COMMA := ,
EXTRAS := cpu,openvino,tensorrt-rtx,nvidia,train,ray,postgresql,sign,remote,view,examples,dev
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check format clean

demo: $(READY)
	$(BIN)/gensoup demo $(if $(DATA),--data "$(DATA)") $(if $(WEIGHTS),--weights-dir "$(WEIGHTS)") $(if $(OUT),--out "$(OUT)")

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# uv installs torch in half a minute where pip takes two; it comes from the registry itself, into the environment.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $@

constraints.txt:
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate --no-emit-index-url \
	  $(foreach extra,$(subst $(COMMA), ,$(EXTRAS)),--extra $(extra)) pyproject.toml --output-file $@

clean:
	rm -rf $(VENV) runs
