# `make` lists the targets. Everything runs in .venv, which the first target that needs it builds from requirements.lock.
PYTHON ?= python3
# What weights/ holds of a finished run: all that was trained, and the small outs of encoded_img that sampling needs.
WEIGHTS := $(addprefix checkpoints/,autoencoder discriminator denoiser moment_maps feature_extractor latent_classifiers) \
           $(addprefix encoded_img/,labels.safetensors stats.json text)
VENV := .venv
INSTALLED := $(VENV)/.installed
# The documentation's own environment. Zensical loads Mermaid from a server unless the site ships it.
DOCS := .venv-docs
MERMAID := $(DOCS)/mermaid.tiny.js
MERMAID_SHA256 := 9f2807e402479d2864bfd9a95052076fc69d0ff45a0b25148b84b70fc33425b9
EXPLORE_VENV := .venv-explore
EXPLORE_INSTALLED := $(EXPLORE_VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

help:  ## list the targets
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  %-18s%s\n", $$1, $$2 }' Makefile

##@ Train

install: $(INSTALLED)  ## build .venv with the pinned dependencies

recipe:  ## write params.yaml from a recipe, without an installation: make recipe NAME=digits
	@$(PYTHON) -c "import sys; sys.exit('error: $(PYTHON) is Python %d.%d; make recipe needs 3.8 or newer: make recipe PYTHON=python3.11' % sys.version_info[:2] if sys.version_info < (3, 8) else 0)"
	@$(PYTHON) -I src/latentline/tools/recipe.py "$(NAME)"

repro: $(INSTALLED)  ## run the whole pipeline (dvc repro)
	dvc repro

clean-state:  ## forget the saved state of interrupted trainings
	rm -rf .state

##@ Look

show:  ## open the latest grid of samples on screen
	@test -f fig/sample/grid.png || { echo "error: fig/sample/grid.png is missing; run \`dvc repro sample\`" >&2; exit 2; }
	@echo "$(CURDIR)/fig/sample/grid.png"; $(PYTHON) -m webbrowser -t "file://$(CURDIR)/fig/sample/grid.png"

report: $(INSTALLED)  ## write the run as one file, report.html; beside another revision or experiment: make report BASE=main
	@python -m latentline.report "$(DIR)" "$(BASE)"

explore: $(EXPLORE_INSTALLED)  ## open the model in a browser: sample, edit, interpolate, map, repair; on another port: make explore PORT=7861
	@HOST="$(if $(filter command,$(origin HOST)),$(HOST))" PORT="$(if $(filter command,$(origin PORT)),$(PORT))" \
		$(EXPLORE_VENV)/bin/python -m latentline.explorer

##@ Share

weights: $(INSTALLED)  ## fetch trained checkpoints; then `dvc repro --single-item sample` draws without training
	dvc pull --remote weights $(WEIGHTS)

model-card: $(INSTALLED)  ## write a model card beside exported weights: make model-card DIR=exported
	@test -n "$(DIR)" || { echo "error: DIR is empty; expected the folder of the weights: make model-card DIR=exported" >&2; exit 2; }
	@python -m latentline.report.model_card "$(DIR)"

export-diffusers: $(INSTALLED)  ## write the model as a pipeline of diffusers, with a model card: make export-diffusers DIR=exported
	@test -n "$(DIR)" || { echo "error: DIR is empty; expected a folder to write: make export-diffusers DIR=exported" >&2; exit 2; }
	python -m latentline.tools.export_diffusers "$(DIR)"
	python -m latentline.report.model_card "$(DIR)"

export-onnx: $(INSTALLED)  ## write networks and a program that draws with onnxruntime, with a model card: make export-onnx DIR=exported
	@test -n "$(DIR)" || { echo "error: DIR is empty; expected a folder to write: make export-onnx DIR=exported" >&2; exit 2; }
	python -m latentline.tools.export_onnx "$(DIR)"
	python -m latentline.report.model_card "$(DIR)"

export-web: $(INSTALLED)  ## write a page that draws and edits in the browser without a server, with a model card: make export-web DIR=exported
	@test -n "$(DIR)" || { echo "error: DIR is empty; expected a folder to write: make export-web DIR=exported" >&2; exit 2; }
	python -m latentline.web "$(DIR)"
	python -m latentline.report.model_card "$(DIR)"

push-runs: $(INSTALLED)  ## send every run's results to the default remote (dvc push --run-cache sends no figures)
	python -m latentline.tools.push_runs

ship-weights: $(INSTALLED)  ## put the checkpoints of the finished run into weights/, in place of those there
	rm -rf weights/files
	dvc push --remote weights $(WEIGHTS)

wheel: $(INSTALLED)  ## build dist/*.whl, the library without the pipeline
	rm -rf build dist
	python -m build --wheel --no-isolation

##@ Develop

test: $(INSTALLED)  ## the tests, without the slow ones, on up to 4 cores
	OMP_NUM_THREADS=1 pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: $(INSTALLED)  ## the slow tests
	pytest -m slow

lint: $(INSTALLED)  ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy

docs: $(DOCS)/.installed $(MERMAID)  ## build the documentation; then read it: python3 -m http.server --directory site
	rm -rf site build/docs
	mkdir -p build/docs
	cp -R README.md CONTRIBUTING.md CHANGELOG.md params.yaml docs examples fig $(MERMAID) build/docs/
	$(DOCS)/bin/zensical build --clean --strict
	$(DOCS)/bin/python src/latentline/tools/site_requests.py site

params: $(INSTALLED)  ## write recipes/default.yaml and params.yaml from the fields of the models
	python -m latentline.tools.params_file

deps: $(INSTALLED)  ## write code dependencies into dvc.yaml, and the table of imports into CONTRIBUTING.md
	python -m latentline.tools.deps
	python -m latentline.tools.import_table

kills: $(INSTALLED)  ## kill every stage at random moments, ten times each, and compare the bytes (an hour)
	python tests/kills.py --kills 10

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit('error: $(PYTHON) is Python %d.%d; Latentline needs 3.11 or newer: make PYTHON=python3.11' % sys.version_info[:2] if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(DOCS)/.installed: requirements-docs.lock
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.lock
	touch $@

$(MERMAID): $(DOCS)/.installed
	npm pack --silent --pack-destination $(DOCS) @mermaid-js/tiny@12.0.0 || { echo "error: npm must be installed and reach its registry: it brings Mermaid, which draws the graphs" >&2; exit 2; }
	tar -xzf $(DOCS)/mermaid-js-tiny-12.0.0.tgz --strip-components 2 --touch -C $(DOCS) package/dist/mermaid.tiny.js
	echo "$(MERMAID_SHA256)  $@" | sha256sum --check --quiet || { rm $@; exit 2; }

# An environment of its own on top of .venv: Gradio needs earlier versions of two packages, which the stages keep.
$(EXPLORE_INSTALLED): requirements-explore.lock $(INSTALLED)
	$(VENV)/bin/python -m venv $(EXPLORE_VENV)
	$(EXPLORE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-explore.lock
	$(EXPLORE_VENV)/bin/python -c "import pathlib, sys, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'below.pth').write_text('import site; site.addsitedir(%r)' % sys.argv[1])" \
		"$$($(VENV)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")"
	touch $@

.PHONY: help install recipe repro clean-state show report explore weights model-card export-diffusers export-onnx export-web push-runs ship-weights wheel test test-slow lint docs params deps kills
.DEFAULT_GOAL := help
