# SPDX-License-Identifier: Apache-2.0
# The one folder in which everything that set-up builds or downloads is kept.
# To be sourced; sets `cache`, `setup` and `root`, and defines the functions below.

setup="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(dirname "$setup")"
cache="${ODRADEK_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/odradek}"

# One line for a person about work that takes time. Nothing to do means nothing said.
say() { printf 'setup: %s\n' "$*" >&2; }

fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

# key TEXT FILE...: a short name for what is built from TEXT (flags, versions) and the FILEs' contents.
key() {
  local text="$1"
  shift
  { printf '%s\n' "$text"; cat -- "$@"; } | sha256sum | cut -c1-16
}

# locked NAME COMMAND...: run COMMAND while no other process on this machine does the same for NAME.
locked() {
  local name="$1"
  shift
  mkdir -p "$cache/locks"
  (
    flock 9
    "$@"
  ) 9>"$cache/locks/$name"
}
