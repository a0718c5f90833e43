# make roadmap: set up, run the main job, draw the chart.   make test: set up, run the tests.
# make quick: the tests to run at every save.               make test-all: the slow ones, too.
PYTHON ?= python3
BIN := .venv/bin
# Each process of the tests takes up to 1 GB of memory.
PARALLEL := -n auto --maxprocesses 8 --dist worksteal

.PHONY: roadmap quick test test-all test-weekly lint format golden lock clean

roadmap: .venv/ready
	$(BIN)/python run_roadmap.py --until ln

quick: .venv/ready
	$(BIN)/pytest -q $(PARALLEL) -m "not integration and not slow and not weekly"

test: .venv/ready
	$(BIN)/pytest $(PARALLEL) -m "not slow and not weekly"

test-all: .venv/ready
	$(BIN)/pytest $(PARALLEL) -m "not weekly" --durations 15

test-weekly: .venv/ready
	$(BIN)/pytest -m weekly

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/language.py

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: .venv/ready
	$(BIN)/pytest --refresh-golden tests/test_golden.py tests/test_golden_recipe.py \
		tests/test_layer_decay.py tests/test_recipe_variants.py tests/test_dense_recipes.py

# The newest versions that go together, of all that .[dev] needs.
lock:
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/pip install --quiet --disable-pip-version-check '.[dev]'
	build/lock/bin/pip freeze --exclude convnext-roadmap >requirements.txt
	rm -r build/lock

.venv/ready: pyproject.toml requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.txt \
		--editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
