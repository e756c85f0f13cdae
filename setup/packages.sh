# SPDX-License-Identifier: Apache-2.0
# What has to come from the operating system. To be sourced after cache.sh.

missing=()

# need PACKAGE PATH-OR-COMMAND: remember Debian's PACKAGE as missing unless the command or path is there.
need() {
  case "$2" in
  /*) [ -e "$2" ] && return ;;
  *) PATH="$PATH:/usr/sbin:/sbin" command -v "$2" >/dev/null && return ;;
  esac
  missing+=("$1")
}

# installs_packages: whether this machine is one whose packages we may install: Debian, and we are root.
installs_packages() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && grep -qs '^ID=debian' /etc/os-release
}

apt_install() {
  local log="$cache/logs/apt.log"
  mkdir -p "$cache/logs"
  say "installing from Debian: $*"
  # The packages' services are of no use here (every daemon is started by the tests themselves, with its own
  # ports and folders), so a service that cannot start is no failure.
  if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    fail "installing $* failed; the whole log is $log"
  fi
}

# packages_present: install what `need` found missing, or say how to get it and fail.
packages_present() {
  [ ${#missing[@]} -eq 0 ] && return
  if installs_packages; then
    locked apt apt_install "${missing[@]}"
    missing=()
    return
  fi
  fail "missing on this machine: ${missing[*]} (names of Debian's packages).
setup: on Debian run as root: apt-get install --no-install-recommends ${missing[*]}
setup: elsewhere install what provides the same commands with your system's package manager."
}

# toolchain COMMAND HOW: a language toolchain is never installed by us, only named.
toolchain() {
  command -v "$1" >/dev/null || fail "$1 is missing: $2"
}
