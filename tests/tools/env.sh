# shellcheck shell=bash
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sourced: the names and paths that every test tool shares, and the environment in which all of
# them run. Installs nothing; tests/tools/setup does.
#
#   TRUSTEDVM_ROOT         the checkout
#   TRUSTEDVM_BUILD        work files of this checkout, git-ignored
#   TRUSTEDVM_CACHE        what several checkouts and runs share: environments, trees, guests
#   TRUSTEDVM_VENV         ansible-core of the oldest supported release on Debian's Python, all tools
#   TRUSTEDVM_VENV_NEWEST  the newest ansible-core on Python 3.12

TRUSTEDVM_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
TRUSTEDVM_BUILD=$TRUSTEDVM_ROOT/build
: "${TRUSTEDVM_CACHE:=/var/cache/trustedvm}"

# An environment is named by what is in it: other requirements make another environment, and the
# same requirements in a fresh clone find the one that is there.
_venv_dir() {
  local digest
  digest=$(sha256sum <"$TRUSTEDVM_ROOT/tests/tools/$1")
  echo "$TRUSTEDVM_CACHE/venv-$2-${digest:0:12}"
}
TRUSTEDVM_VENV=$(_venv_dir requirements.txt py3.11)
TRUSTEDVM_VENV_NEWEST=$(_venv_dir requirements-newest.txt py3.12)
export TRUSTEDVM_ROOT TRUSTEDVM_BUILD TRUSTEDVM_CACHE TRUSTEDVM_VENV TRUSTEDVM_VENV_NEWEST

# Only this PATH: version managers put wrappers named python3.11 in front, which ansible-test
# cannot use.
export PATH="$TRUSTEDVM_VENV/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
unset PYTHONPATH PYTHONHOME PYENV_VERSION VIRTUAL_ENV

# Ansible refuses to start in a locale that is not UTF-8, which is a bare machine's default.
export LANG=C.UTF-8 LC_ALL=C.UTF-8
export ANSIBLE_COLLECTIONS_PATH="$TRUSTEDVM_BUILD/collections"
# Keeps the user's ~/.ansible out of the tests, and the tests out of it.
export ANSIBLE_HOME="$TRUSTEDVM_BUILD/ansible"
export PYTHONDONTWRITEBYTECODE=1
export HYPOTHESIS_STORAGE_DIRECTORY="$TRUSTEDVM_BUILD/hypothesis"
