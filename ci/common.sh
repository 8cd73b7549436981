# Sourced by the scripts beside it: where things are, and how to speak.
# shellcheck shell=bash
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${VENV:-$ROOT/.venv}
STAMPS=$VENV/.hali-stamps # inside, so that a deleted environment takes its stamps along
BUILD_CACHE=${HALI_BUILD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hali-build}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

say() { printf '%s\n' "hali: $*" >&2; }
die() { say "$*"; exit 1; }
digest() { sha256sum | cut -c1-16; } # of standard input
