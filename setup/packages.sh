# SPDX-License-Identifier: Apache-2.0
# What has to come from the operating system. To be sourced after cache.sh.

missing=()

# need PACKAGE PATH-OR-COMMAND: remember Debian's PACKAGE as missing unless the command or path is there.
need() {
  case "$2" in
  /*) [ -e "$2" ] && return ;;
  *) PATH="$PATH:/usr/sbin:/sbin" command -v "$2" >/dev/null && return ;;
  esac
  [[ " ${missing[*]} " == *" $1 "* ]] || missing+=("$1")
}

# installs_packages: whether this machine is one whose packages we may install: Debian, and we are root.
installs_packages() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && grep -qs '^ID=debian' /etc/os-release
}

# How apt waits: for another package manager's lock, for a server that says nothing, and again for one that failed.
apt_options=(-q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Acquire::http::Timeout=60 -o Acquire::https::Timeout=60)
# All of an installation; the largest here downloads 300 MB.
apt_patience=1800

# update_lists: apt waits for the lock of installed packages, but not for the one of the lists: try again for a while.
update_lists() {
  local try
  for try in 1 2 3 4 5 6; do
    apt-get "${apt_options[@]}" update && return
    [ "$try" = 6 ] || sleep "${apt_pause:-10}"
  done
  # A source of the machine's owner may be broken and have nothing to do with us: the installation decides.
  say "apt's lists could not be brought up to date; going on with those that are there"
}

services_policy=/usr/sbin/policy-rc.d

# services_off POLICY COMMAND...: run COMMAND while Debian's packages may not start services. They are of no use here:
# every daemon is started by the tests themselves, with its own ports and folders. POLICY is the file that the packages
# ask; what was there is put back, also what a run that was killed has moved aside.
services_off() {
  local policy="$1" aside="$1.before-odradek" mark='# odradek setup: removed when its installation ends' status=0
  shift
  restore_services "$policy"
  if [ -e "$policy" ]; then mv "$policy" "$aside"; fi
  printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
  chmod 755 "$policy"
  "$@" || status=$?
  restore_services "$policy"
  return "$status"
}

restore_services() {
  local policy="$1" aside="$1.before-odradek"
  if grep -qs '^# odradek setup:' "$policy"; then rm -f "$policy"; fi
  if [ -e "$aside" ]; then mv "$aside" "$policy"; fi
}

# disable_services PACKAGE...: what has just been installed for tests does not start with the machine either.
disable_services() {
  local units
  command -v systemctl >/dev/null || return 0
  units="$(dpkg -L "$@" | sed -n 's|^.*/lib/systemd/system/\([^/@]*\.service\)$|\1|p' | sort -u)"
  # shellcheck disable=SC2086 # one word per unit
  [ -z "$units" ] || systemctl --quiet disable $units || say "not disabled: $units"
}

install_from_debian() {
  update_lists
  DEBIAN_FRONTEND=noninteractive timeout "$apt_patience" \
    apt-get "${apt_options[@]}" install -y --no-install-recommends "$@" && disable_services "$@"
}

apt_install() {
  local log="$cache/logs/apt.log"
  mkdir -p "$cache/logs"
  say "installing from Debian: $*"
  # Ended from outside, it still puts the policy back.
  trap 'restore_services "$services_policy"; exit 1' INT TERM HUP
  if ! services_off "$services_policy" install_from_debian "$@" >"$log" 2>&1 </dev/null; then
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
