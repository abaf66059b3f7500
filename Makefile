# `make demo` and `make test` do all their own set-up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
OUT ?= out

.PHONY: demo test lint clean

demo: $(STAMP)
	mkdir -p $(OUT)
	$(BIN)/geoanom detect data/s2_virginia_1024.tif --config configs/default.yaml --top 20 --overwrite \
	  --heatmap $(OUT)/heatmap.tif --quicklook $(OUT)/quicklook.png --embeddings $(OUT)/embeddings.parquet \
	  --report $(OUT)/report.html -o $(OUT)/anomalies.geojson
	@echo "$(OUT)/anomalies.geojson, $(OUT)/heatmap.tif and $(OUT)/embeddings.parquet open in any GIS; look at $(OUT)/report.html"

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $(STAMP)

clean:
	rm -rf $(VENV) $(OUT)
