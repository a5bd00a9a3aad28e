# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Every target installs what it needs: on a bare Debian 12, as root, `make` and `git` are enough.
# Work files go to build/, what further runs can use again to /var/cache/trustedvm (TRUSTEDVM_CACHE).

RUN := tests/tools/run
CHECK := tests/tools/setup --tests && exec $(RUN) python tests/tools/check.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-unit lint sanity integration molecule test-lab bench setup dist clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do printf '%-20s %s\n' "$$target" "$$text"; done

demo: ## Two hypervisors, a VM with an encrypted vTPM, its live migration
	@exec $(RUN) tests/demo/demo

test: ## Everything: unit, sanity, integration, lint, two-host tests, molecule
	@$(CHECK)

test-unit: ## Unit tests, with a real libvirt, SQLite and a real PostgreSQL
	@$(CHECK) unit

lint: ## ansible-lint, yamllint, documentation, changelog, scripts, types
	@$(CHECK) lint

sanity: ## ansible-test sanity on the oldest and the newest supported ansible-core
	@$(CHECK) sanity

integration: ## ansible-test integration
	@$(CHECK) integration

molecule: ## The molecule scenarios
	@$(CHECK) molecule

test-lab: ## All tests that need hypervisors, molecule included
	@$(CHECK) lab

bench: ## Benchmark against raw libvirt calls and an Ansible loop; build/bench.json
	@exec tests/bench/run

setup: ## Only install what the other targets need
	@tests/tools/setup --tests

dist: ## Build the collection's archive in build/
	@$(RUN) bash -c 'ansible-galaxy collection build --force --output-path build "$$(tests/tools/stage dist)"'

clean: ## Remove the work files of this checkout; the cache stays
	rm -rf build
