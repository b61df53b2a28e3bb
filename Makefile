# `make` lists the targets. Everything runs in .venv, which the first target that needs it builds from requirements.lock.
PYTHON ?= python3
# What weights/ holds of a finished run: all that was trained, and the small outs of encoded_img that sampling needs.
WEIGHTS := $(addprefix checkpoints/,autoencoder discriminator denoiser feature_extractor latent_classifiers) \
           $(addprefix encoded_img/,labels.safetensors stats.json text)
VENV := .venv
INSTALLED := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## */\1\t/'

install: $(INSTALLED)  ## build .venv with the pinned dependencies

repro: $(INSTALLED)  ## run the whole pipeline (dvc repro)
	dvc repro

test: $(INSTALLED)  ## the tests, without the slow ones, on up to 4 cores
	OMP_NUM_THREADS=1 pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: $(INSTALLED)  ## the slow tests
	pytest -m slow

kills: $(INSTALLED)  ## kill every stage at random moments, ten times each, and compare the bytes (an hour)
	python tests/kills.py --kills 10

lint: $(INSTALLED)  ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy

deps: $(INSTALLED)  ## write each stage's code dependencies into dvc.yaml, and the table of imports into CONTRIBUTING.md
	python -m latentline.tools.deps
	python -m latentline.tools.import_table

recipe:  ## write params.yaml from a recipe, without an installation: make recipe NAME=digits
	@$(PYTHON) -c "import sys; sys.exit('error: $(PYTHON) is Python %d.%d; make recipe needs 3.8 or newer: make recipe PYTHON=python3.11' % sys.version_info[:2] if sys.version_info < (3, 8) else 0)"
	@$(PYTHON) -I src/latentline/tools/recipe.py "$(NAME)"

params: $(INSTALLED)  ## write recipes/default.yaml from the models, and bring params.yaml up to date with it
	python -m latentline.tools.params_file

export-diffusers: $(INSTALLED)  ## write the autoencoder as a diffusers folder: make export-diffusers DIR=exported
	@test -n "$(DIR)" || { echo "error: DIR is empty; expected a folder to write: make export-diffusers DIR=exported" >&2; exit 2; }
	python -m latentline.tools.export_diffusers "$(DIR)"

show:  ## open the latest grid of samples on screen
	@test -f fig/sample/grid.png || { echo "error: fig/sample/grid.png is missing; run \`dvc repro sample\`" >&2; exit 2; }
	$(PYTHON) -m webbrowser -t "file://$(CURDIR)/fig/sample/grid.png"

weights: $(INSTALLED)  ## fetch the default recipe's checkpoints from weights/; then `dvc repro --single-item sample` draws without training
	dvc pull --remote weights $(WEIGHTS)

ship-weights: $(INSTALLED)  ## put the checkpoints of the finished run into weights/, in place of those there
	rm -rf weights/files
	dvc push --remote weights $(WEIGHTS)

push-runs: $(INSTALLED)  ## send DVC's run cache to the default remote, with the results of every run (dvc push --run-cache sends no figures)
	python -m latentline.tools.push_runs

clean-state:  ## forget the saved state of interrupted trainings
	rm -rf .state

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit('error: $(PYTHON) is Python %d.%d; Latentline needs 3.11 or newer: make PYTHON=python3.11' % sys.version_info[:2] if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

.PHONY: help install repro test test-slow kills lint deps recipe params export-diffusers show weights ship-weights push-runs clean-state
.DEFAULT_GOAL := help
