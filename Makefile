# make run | test | lab | demo | gallery | bench | lock | clean. Each sets up .venv where that is needed (tools/set_up.sh).

PARAMS ?= params/quick.yaml
JOBS ?= 2
BIN := .venv/bin
# a server drops larger messages, uploads for example, without a word; its own limit is 10 MB
UPLOADS := GMIQA_UPLOAD_MB=100
LARGE_MESSAGES := tornado_settings='{"websocket_max_message_size": 120000000}'

.PHONY: run test lab demo gallery bench lock clean venv

run: venv            ## the chain of notebooks, on the embedded pictures; ends with the path of the report
	@$(BIN)/gmiqa run $(PARAMS) --jobs $(JOBS)

test: venv           ## style, types and tests, every notebook on the tiny preset included
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

lab: venv            ## JupyterLab on the notebooks
	@$(UPLOADS) $(BIN)/jupyter lab --notebook-dir=notebooks --ServerApp.$(LARGE_MESSAGES)

demo: venv           ## 00_start_here as a page, in Voila
	@$(UPLOADS) $(BIN)/voila notebooks/00_start_here.ipynb --Voila.$(LARGE_MESSAGES)

gallery: venv        ## remakes outputs/gallery from a finished run of PARAMS
	@$(BIN)/gmiqa gallery $(PARAMS)

bench: venv          ## speed and memory, as ratios
	@$(BIN)/python -m benchmarks

lock: venv           ## solves constraints.txt anew for every platform, keeping the versions in it where it can
	@$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-annotate --no-emit-index-url \
		--custom-compile-command 'make lock' --quiet --output-file constraints.txt

clean:               ## removes .venv and caches; outputs/ stays
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache gmiqa.egg-info build dist
	find gmiqa gmiqa_core tests -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@tools/set_up.sh
