// SPDX-License-Identifier: Apache-2.0
//! The set-up scripts against programs that are not what they should be: compilers that are too old, an apt whose lock
//! is held, a machine whose services have a policy already. Nothing is installed.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use odradek_e2e::tools::project_root;
use tempfile::TempDir;

/// A folder of programs that come first in PATH.
struct Fakes(TempDir);

impl Fakes {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn add(&self, name: &str, script: &str) {
        let path = self.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a line of bash that sees set-up's functions, with `FAKES` naming this folder.
    fn run(&self, line: &str) -> Output {
        let sources = ["cache.sh", "packages.sh", "toolchains.sh"].map(|file| format!(". setup/{file}; ")).concat();
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", &format!("{sources}{line}")])
            .current_dir(project_root())
            .env("PATH", format!("{}:{}", self.path().display(), std::env::var("PATH").unwrap()))
            .env("FAKES", self.path())
            .env("ODRADEK_CACHE", self.path().join("cache"))
            .output()
            .unwrap()
    }

    fn complaint(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(!output.status.success(), "`{line}` lets it pass");
        String::from_utf8(output.stderr).unwrap()
    }

    fn passes(&self, line: &str) {
        let output = self.run(line);
        assert!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_compiler_that_is_too_old_is_named_with_the_next_step() {
    let fakes = Fakes::new();
    fakes.add("rustc", "echo 'rustc 1.94.1 (0123456 2026-03-01)'");
    fakes.add("cargo", "true");
    let said = fakes.complaint("rust_present");
    assert!(said.contains("Rust is 1.94.1, and this needs 1.95 or newer") && said.contains("rustup"), "{said}");

    fakes.add("go", "echo go1.24.3");
    let said = fakes.complaint("go_present kubernetes helm");
    assert!(said.contains("Go is 1.24.3, and this needs 1.26.0 or newer") && said.contains("go.dev/dl"), "{said}");
    // What a module wants is what its go.mod says.
    fakes.passes("go_present kubernetes");

    fakes.add(
        "java",
        "echo 'Picked up JAVA_TOOL_OPTIONS: -Xmx99g' >&2; echo 'openjdk version \"11.0.2\" 2019-01-15' >&2",
    );
    fakes.add("javac", "echo 'javac 11.0.2'");
    let said = fakes.complaint("java_present");
    assert!(said.contains("java is 11.0.2, and this needs 17 or newer") && said.contains("jdk"), "{said}");
}

#[test]
fn a_compiler_that_is_new_enough_passes() {
    let fakes = Fakes::new();
    fakes.add("cargo", "true");
    fakes.add("rustc", "echo 'rustc 1.100.0-nightly (0123456 2027-03-01)'");
    fakes.add("go", "echo go1.26.0");
    fakes.add("java", "echo 'openjdk version \"21.0.1\" 2023-10-17' >&2");
    fakes.add("javac", "echo 'javac 17'");
    fakes.passes("rust_present");
    fakes.passes("go_present kubernetes dns helm");
    fakes.passes("java_present");
}

#[test]
fn apt_waits_for_locks_and_services_stay_off_meanwhile() {
    let fakes = Fakes::new();
    // The lists are locked twice. The installation notes what it was told and what the policy said then.
    fakes.add(
        "apt-get",
        "echo \"$*\" >>\"$FAKES/asked\"\n\
         case \"$*\" in\n\
         *update) n=$(grep -c update \"$FAKES/asked\"); [ \"$n\" -gt 2 ] || { echo 'E: Could not get lock' >&2; exit 100; } ;;\n\
         *install*) status=0; \"$FAKES/policy\" || status=$?; echo \"$status\" >\"$FAKES/policy-said\" ;;\n\
         esac",
    );
    fakes.add("dpkg", "echo /lib/systemd/system/etcd.service");
    fakes.add("systemctl", "echo \"$*\" >\"$FAKES/systemctl-asked\"");
    fakes.add("policy", "exit 7");
    fakes.passes("apt_pause=0; services_policy=\"$FAKES/policy\"; apt_install etcd-server");

    let asked = fs::read_to_string(fakes.path().join("asked")).unwrap();
    assert_eq!(asked.matches("update").count(), 3, "{asked}");
    let installation = asked.lines().last().unwrap();
    for option in ["DPkg::Lock::Timeout=", "Acquire::Retries=", "etcd-server"] {
        assert!(installation.contains(option), "{installation}");
    }
    assert_eq!(fs::read_to_string(fakes.path().join("policy-said")).unwrap().trim(), "101");
    let disabled = fs::read_to_string(fakes.path().join("systemctl-asked")).unwrap();
    assert_eq!(disabled.trim(), "--quiet disable etcd.service");
    let policy = fs::read_to_string(fakes.path().join("policy")).unwrap();
    assert!(policy.contains("exit 7"), "the owner's policy is not back: {policy}");
}

#[test]
fn the_policy_for_services_is_put_back_also_after_a_failure_and_a_killed_run() {
    let fakes = Fakes::new();
    let policy = fakes.path().join("policy");
    // There was none.
    assert!(!fakes.run("services_off \"$FAKES/policy\" false").status.success());
    assert!(!policy.exists());
    // A run was killed in the middle, where there was none before, and where there was one.
    for before in [None, Some("#!/bin/sh\nexit 7\n")] {
        if let Some(text) = before {
            fs::write(&policy, text).unwrap();
        }
        assert!(!fakes.run("services_off \"$FAKES/policy\" sh -c 'kill -9 $PPID'").status.success());
        assert!(policy.exists());
        fakes.passes("services_off \"$FAKES/policy\" true");
        assert_eq!(fs::read_to_string(&policy).ok().as_deref(), before);
    }
    let left: Vec<_> = fs::read_dir(fakes.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["policy"]);
}
