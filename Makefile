# Everything happens in .venv; outside of it, only missing Debian packages are installed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# With it, each of the many processes that the tests and the bench start would compile the program anew.
unexport PYTHONDONTWRITEBYTECODE

# Debian packages, each with a program or file that exists if it is installed. The tests need these besides Python:
TEST_PACKAGES := strace:strace ffmpeg:ffmpeg openssl:openssl
# The bench's stand-in for the API is nginx with Lua; curl and ffmpeg are what it is measured with.
BENCH_PACKAGES := nginx:nginx libnginx-mod-http-lua:/usr/lib/nginx/modules/ngx_http_lua_module.so \
	curl:curl ffmpeg:ffmpeg openssl:openssl
# The vendor's guide has clients in Node and Java; docs/nginx.conf is for nginx.
CLIENT_PACKAGES := nodejs:node npm:npm default-jdk-headless:javac $(BENCH_PACKAGES)
# The fault tests mount file systems, start servers and set another clock.
FAULT_PACKAGES := faketime:faketime sshfs:sshfs openssh-server:sshd openssh-client:ssh-keygen \
	bindfs:bindfs ntfs-3g:lowntfs-3g rsync:rsync samba:smbd smbclient:smbclient e2fsprogs:mkfs.ext4
# Programs that read our metrics and our log.
MONITORING_PACKAGES := prometheus:prometheus prometheus-alertmanager:amtool curl:curl jq:jq
# Servers to which transcripts are delivered.
TARGET_PACKAGES := exim4-daemon-light:exim4 openssh-server:sshd openssh-client:sftp openssl:openssl
# The journal that several hosts share.
FLEET_PACKAGES := postgresql:/usr/lib/postgresql iproute2:ip bindfs:bindfs
# The page in a browser that is driven by selenium; axe-core, from npm, looks for what keeps people from using it.
PAGE_PACKAGES := chromium:chromium chromium-driver:chromedriver nodejs:node npm:npm
# These boot a Debian in a container, and freeze a thread in it.
SYSTEMD_PACKAGES := debootstrap:debootstrap systemd-container:systemd-nspawn strace:strace bindfs:bindfs
# More workers than a small machine has cores: most of the time a test waits for a process that it started.
# In the order of the files: the unit tests, which are short, come last and fill the gaps.
BY_FILE := --dist loadfile --no-loadscope-reorder
AT_ONCE := -n 6 $(BY_FILE)
# Of what keeps the cores busy by itself: unit tests, sweeps of kills, builds.
FEWER_AT_ONCE := -n 4 $(BY_FILE)
# What `make test` leaves to the other targets.
ANYWHERE := not needs and not systemd and not clients
# The library of the guide's TypeScript example, which opens the stand-in API's signatures.
CRYPTO_JS := crypto-js@4.2.0
AXE := axe-core@4.14.1

.DEFAULT_GOAL := help
.PHONY: help demo test test-unit test-quick test-clients test-faults test-fleet test-fleet-long test-long test-monitoring test-page test-targets test-systemd
.PHONY: bench bench-quick bench-soak check clean compiled-tests deb page-pictures
.PHONY: packages bench-packages client-packages deb-packages fault-packages fleet-packages monitoring-packages page-packages
.PHONY: systemd-packages target-packages

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 21

demo: $(VENV)/.demo-installed ## see real speech become transcripts; under a minute
	@$(BIN)/invox-watcher demo

test: $(VENV)/.test-installed | packages ## all checks, and every test that any user can run; under ten minutes
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target check compiled-tests
	$(BIN)/pytest $(AT_ONCE) -m '$(ANYWHERE)'

test-unit: $(VENV)/.test-installed ## the unit tests: no process, no server; under a minute
	$(BIN)/pytest $(FEWER_AT_ONCE) tests/unit

test-quick: $(VENV)/.test-installed | packages ## `make test` without the checks and the slow tests
	$(BIN)/pytest $(AT_ONCE) -m '$(ANYWHERE) and not slow'

test-clients: $(VENV)/.test-installed $(VENV)/.node-installed | client-packages ## webhooks with clients in Node and Java, and nginx
	$(BIN)/pytest $(FEWER_AT_ONCE) -m clients

test-faults: $(VENV)/.test-installed | packages fault-packages ## as root: every fault of docs/reliability.md
	@[ "$$(id -u)" -eq 0 ] || { echo "This mounts file systems: run it as root." >&2; exit 1; }
	$(BIN)/pytest $(FEWER_AT_ONCE) tests/faults

test-long: $(VENV)/.test-installed ## random faults in random order, 50,000 steps; hours
	$(BIN)/pytest -s tests/faults/test_any_order.py --hypothesis-profile=long --timeout=0

test-monitoring: $(VENV)/.test-installed | monitoring-packages ## a real Prometheus scrapes the daemon and fires its alerts
	$(BIN)/pytest -m needs tests/acceptance/test_prometheus.py tests/acceptance/test_events_page.py

test-page: $(VENV)/.test-installed $(VENV)/.axe-installed | page-packages ## the page in a real Chromium: walks, hostile values, faults, axe-core
	$(BIN)/pytest tests/page

test-targets: $(VENV)/.test-installed | target-packages ## deliveries to real servers: Exim, sshd, HL7, FHIR, webhooks
	$(BIN)/pytest tests/acceptance/test_targets_*.py

test-fleet: $(VENV)/.test-installed | packages fleet-packages ## as root: several hosts, with a real PostgreSQL
	@[ "$$(id -u)" -eq 0 ] || { echo "This makes network namespaces: run it as root." >&2; exit 1; }
	$(BIN)/pytest tests/fleet

test-fleet-long: $(VENV)/.test-installed | packages fleet-packages ## faults of two hosts in any order, some 8,000 steps; hours
	$(BIN)/pytest -s tests/fleet/test_any_order.py --hypothesis-profile=long --timeout=0

test-systemd: $(VENV)/.test-installed | systemd-packages monitoring-packages target-packages ## as root: the service on a real systemd, and other tests that need root
	@[ "$$(id -u)" -eq 0 ] || { echo "This boots a Debian in a container: run it as root." >&2; exit 1; }
	$(BIN)/pytest -m 'systemd or needs' --ignore tests/faults --ignore tests/fleet --ignore tests/page

bench: $(VENV)/.test-installed | bench-packages ## measure everything of docs/performance.md, and write that page; half an hour
	$(BIN)/python -m bench; status=$$?; $(BIN)/python -m bench.page; exit $$status

bench-quick: $(VENV)/.test-installed | bench-packages ## measure what depends on the way of a recording; two minutes
	$(BIN)/python -m bench --size quick

bench-soak: $(VENV)/.test-installed | bench-packages ## a week of fast days, for docs/performance.md; an hour
	$(BIN)/python -m bench soak; status=$$?; $(BIN)/python -m bench.page; exit $$status

page-pictures: $(VENV)/.test-installed | page-packages ## take the pictures of docs/page.md again
	$(BIN)/python -m tests.page.pictures

check: $(VENV)/.test-installed ## style, types, and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# In a fresh clone, each of the workers would compile all tests for itself, and make hypothesis's table of
# characters. What fails here is reported by them.
compiled-tests: $(VENV)/.test-installed
	@$(BIN)/pytest --collect-only -qq > /dev/null || true
	@$(BIN)/python -c 'from hypothesis import strategies; strategies.text().validate()' || true

deb: | deb-packages ## build dist/invox-watcher_*.deb, on Debian 12 for Debian 12
	packaging/build-deb

clean: ## remove .venv and build files; keeps what `make demo` wrote
	rm -rf $(VENV) build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find bench invox_watcher tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Shell code that installs Debian packages, or names them and fails if it may not.
define install_packages
	if ! command -v apt-get >/dev/null; then \
		echo "Install these with your system's package manager, then call make again: $(1)" >&2; exit 1; \
	elif [ "$$(id -u)" -eq 0 ]; then as_root=; \
	elif command -v sudo >/dev/null; then as_root=sudo; \
	else \
		echo "As root, run: apt-get update && apt-get install -y $(1)" >&2; \
		echo "Then call make again." >&2; exit 1; \
	fi; \
	echo "Installing $(1)"; \
	$$as_root apt-get update -q && \
	$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $(1)
endef

# Shell code that installs those of the packages $(1) whose program or file is missing. Debian installs servers to
# /usr/sbin, which is not on every user's PATH, and starts them: the tests start their own.
define install_missing
	missing=; PATH="$$PATH:/usr/sbin:/sbin"; \
	for pair in $(1); do \
		command -v "$${pair#*:}" >/dev/null || [ -e "$${pair#*:}" ] || missing="$$missing $${pair%%:*}"; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	{ $(call install_packages,$$missing); } || exit 1; \
	[ -d /run/systemd/system ] || exit 0; \
	for pair in nginx:nginx prometheus:prometheus prometheus-alertmanager:prometheus-alertmanager \
		samba:smbd samba:nmbd openssh-server:ssh exim4-daemon-light:exim4 postgresql:postgresql; do \
		case "$$missing " in *" $${pair%%:*} "*) \
			$$as_root systemctl disable --quiet --now "$${pair#*:}" ;; \
		esac; \
	done
endef

packages:
	@$(call install_missing,$(TEST_PACKAGES))

bench-packages:
	@$(call install_missing,$(BENCH_PACKAGES))

client-packages:
	@$(call install_missing,$(CLIENT_PACKAGES))

fault-packages:
	@$(call install_missing,$(FAULT_PACKAGES))

monitoring-packages:
	@$(call install_missing,$(MONITORING_PACKAGES))

page-packages:
	@$(call install_missing,$(PAGE_PACKAGES))

target-packages:
	@$(call install_missing,$(TARGET_PACKAGES))

deb-packages:
	@/usr/bin/python3.11 -c 'import ensurepip, venv' 2>/dev/null || { $(call install_packages,python3.11-venv); }

fleet-packages:
	@$(call install_missing,$(FLEET_PACKAGES))

systemd-packages:
	@$(call install_missing,$(SYSTEMD_PACKAGES))

# Debian and Ubuntu have a separate package for what `python3 -m venv` needs.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "This needs Python 3.11 or later; $(PYTHON) is not." >&2; \
		echo "Name another, for example: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
		$(call install_packages,$$package); }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.demo-installed: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[sandbox,page]'
	@touch $@

$(VENV)/.test-installed: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[sandbox,formats,coverage,docx,page,fleet,dev]'
	@touch $@ $(VENV)/.demo-installed

$(VENV)/.node-installed: $(VENV)/.made Makefile | client-packages
	npm install --prefix $(VENV)/node --no-save --no-package-lock --ignore-scripts --no-audit --no-fund $(CRYPTO_JS)
	@touch $@

$(VENV)/.axe-installed: $(VENV)/.made Makefile | page-packages
	npm install --prefix $(VENV)/axe --no-save --no-package-lock --ignore-scripts --no-audit --no-fund $(AXE)
	@touch $@
