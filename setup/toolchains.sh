# SPDX-License-Identifier: Apache-2.0
# The compilers and the Java runtime: whether they are there and new enough. To be sourced after cache.sh.
#
# Each minimum stands in one place: Rust's in Cargo.toml, Go's in the go.mod files beside this file, Java's here.
# They are never installed or changed by us, only named, with the next step.

java_minimum=17

# at_least VERSION MINIMUM: whether a version is not below another, number by number.
at_least() {
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# new_enough NAME VERSION MINIMUM HOW: say what is too old, and what to do, and fail.
new_enough() {
  [ -n "$2" ] || fail "$1 does not tell its version: $4"
  at_least "$2" "$3" || fail "$1 is $2, and this needs $3 or newer: $4"
}

rust_present() {
  local minimum how version
  minimum="$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml")"
  how="install Rust $minimum or newer with rustup (https://rustup.rs), or run: rustup update stable"
  command -v cargo >/dev/null && command -v rustc >/dev/null || fail "cargo is missing: $how"
  version="$(cd "$root" && rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p')"
  new_enough Rust "$version" "$minimum" "$how"
}

# go_present FOLDER...: for the modules in these folders of setup/.
go_present() {
  local minimum how version folder newest
  minimum="$(for folder in "$@"; do sed -n 's/^go \([0-9.]*\)$/\1/p' "$setup/$folder/go.mod"; done | sort -V | tail -n 1)"
  newest="$(for folder in "$@"; do grep -lx "go $minimum" "$setup/$folder/go.mod"; done | head -n 1)"
  how="install Go $minimum or newer (https://go.dev/dl), before the old one in PATH"
  command -v go >/dev/null || fail "go is missing: $how"
  # Asked in the module that wants the most: a Go that may fetch a newer one by itself (GOTOOLCHAIN=auto) does so.
  version="$(cd "$(dirname "$newest")" && GOFLAGS='' GOWORK=off go env GOVERSION 2>/dev/null | sed -n 's/^go\([0-9.]*\).*/\1/p')"
  new_enough Go "$version" "$minimum" "$how"
}

java_present() {
  local tool version how
  how="install a JDK $java_minimum or newer (Debian: apt-get install openjdk-$java_minimum-jdk-headless) and put it first in PATH"
  for tool in java javac; do
    command -v "$tool" >/dev/null || fail "$tool is missing: $how"
    # `openjdk version "17.0.15" 2025-04-15`, `javac 17.0.15`; before 9 it was 1.8.
    version="$("$tool" -version 2>&1 |
      sed -n -e 's/^.* version "\([0-9.]*\).*/\1/p' -e 's/^javac \([0-9.]*\).*/\1/p' | head -n 1)"
    new_enough "$tool" "$version" "$java_minimum" "$how"
  done
}
