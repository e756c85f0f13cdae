// SPDX-License-Identifier: Apache-2.0
//! What the tests share: a running `odradek dev`, and commands beside it.
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_odradek");

pub(crate) struct Dev {
    pub(crate) child: Child,
    pub(crate) ready: serde_json::Value,
}

impl Dev {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(BINARY)
            .args(["dev", "--listen", "127.0.0.1:0", "--output", "json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, ready: serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}")) }
    }

    pub(crate) fn bootstrap(&self) -> &str {
        self.ready["bootstrapServers"].as_str().unwrap()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        panic!("it does not stop");
    }

    /// `odradek dev broker` for this one.
    pub(crate) fn broker(&self, arguments: &[&str]) -> Output {
        let control = self.ready["control"].as_str().unwrap();
        run(&[&["dev", "broker", "--control", control, "--output", "json"], arguments].concat())
    }

    /// The same, successful: the brokers as they are then.
    pub(crate) fn brokers(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.broker(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

pub(crate) fn error_line(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}
