# SPDX-License-Identifier: Apache-2.0
# The checkers of licences, spelling and TOML. To be sourced after cache.sh, packages.sh and toolchains.sh.
# `lint_tools` prints the folder that holds them, once `install_lint` has run.

cargo_deny_version=0.20.2

lint_tools() {
  echo "$cache/lint-$(key "$cargo_deny_version" "$setup/lint-requirements.txt")"
}

build_lint() {
  local folder="$1" log="$cache/logs/lint.log" started=$SECONDS
  [ -x "$folder/bin/cargo-deny" ] && return
  mkdir -p "$cache/logs"
  say "installing cargo-deny, typos and taplo, once (about 6 minutes on 2 cores)"
  if ! {
    python3 -m venv "$folder" &&
      "$folder/bin/pip" install --disable-pip-version-check -r "$setup/lint-requirements.txt" &&
      CARGO_TARGET_DIR="$cache/lint-build" cargo install --locked --root "$folder" --version "$cargo_deny_version" cargo-deny
  } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "the checkers could not be installed; the whole log is $log"
  fi
  rm -rf "$cache/lint-build"
  say "installed the checkers in $((SECONDS - started)) s"
}

install_lint() {
  need python3 python3
  if ! python3 -c 'import ensurepip' 2>/dev/null; then
    missing+=(python3-venv)
  fi
  packages_present
  rust_present
  locked lint build_lint "$(lint_tools)"
}
