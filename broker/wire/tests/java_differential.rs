// SPDX-License-Identifier: Apache-2.0
//! Our codec against Kafka's own generated classes (kafka-clients 4.4.0), for every API, version and
//! direction that we have. Random messages must be read by Kafka and written back byte for byte, and Kafka's
//! `toString` must show every value under the name that we have it under; defaults, header versions,
//! version ranges and error codes must be Kafka's.
#![allow(clippy::print_stdout, reason = "the list of what was compared is this test's report")]

mod bodies;

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use bodies::{Body, DIRECTIONS, from_hex, hex, versions};
use odradek_wire::generate::Source;
use odradek_wire::{ApiKey, Encoder, ErrorCode, RequestHeader, ResponseHeader, Text, api_versions};

/// Random messages for each key, version and direction.
const VALUES: u64 = 25;

/// Fields of versions that Kafka calls unstable, which its `toString` prints and we do not have.
const UNSTABLE_FIELDS: [&str; 2] =
    [", enable2Pc=false, keepPreparedTxn=false", ", ongoingTxnProducerId=-1, ongoingTxnProducerEpoch=-1"];

/// A JVM that answers the commands of `WirePeer.java`; it ends when this process closes its input by ending.
struct Peer {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    #[allow(clippy::zombie_processes, reason = "it lives as long as this test process and ends with it")]
    fn start() -> Self {
        let jar = std::env::var_os("ODRADEK_KAFKA_CLIENTS_JAR").map(PathBuf::from).filter(|jar| jar.is_file());
        let jar = jar.expect(
            "ODRADEK_KAFKA_CLIENTS_JAR must name kafka-clients-4.4.0.jar: run `setup/install clients`, then \
             `export ODRADEK_KAFKA_CLIENTS_JAR=\"$(setup/clients.sh --clients-jar)\"`",
        );
        let folder = jar.parent().expect("a file has a folder").display().to_string();
        let classes = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wire-peer");
        // The libraries that the jar needs stand beside it.
        let class_path = format!("{}:{}:{folder}/*", classes.display(), jar.display());
        let compiled = Command::new("javac")
            .arg("-cp")
            .arg(&class_path)
            .arg("-d")
            .arg(&classes)
            .arg(
                Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
                    .join("tests/java/WirePeer.java"),
            )
            .status()
            .expect("javac runs");
        assert!(compiled.success(), "WirePeer.java compiles");
        let mut process = Command::new("java")
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m", "-cp"])
            .arg(&class_path)
            .arg("WirePeer")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("java runs");
        let input = process.stdin.take().expect("is piped");
        let output = BufReader::new(process.stdout.take().expect("is piped"));
        Self { input, output }
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").expect("the JVM listens");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("the JVM answers");
        let answer = answer.trim_end().to_owned();
        assert!(!answer.is_empty(), "no answer to {command}");
        answer
    }

    /// Bytes and text of the answer to a `message` or `default` command.
    fn ask_message(&mut self, command: &str) -> Result<(Vec<u8>, String), String> {
        let answer = self.ask(command);
        let Some((bytes, text)) = answer.strip_prefix('.').and_then(|rest| rest.split_once(" .")) else {
            return Err(answer);
        };
        let mut text = String::from_utf8(from_hex(text)).expect("Java writes UTF-8");
        for fields in UNSTABLE_FIELDS {
            text = text.replace(fields, "");
        }
        Ok((from_hex(bytes), text))
    }
}

/// The one JVM of this test run.
fn peer() -> MutexGuard<'static, Peer> {
    static PEER: LazyLock<Mutex<Peer>> = LazyLock::new(|| Mutex::new(Peer::start()));
    // A failed test leaves no question unanswered, so the next may go on.
    PEER.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn kafka_reads_and_writes_what_we_do() {
    let mut peer = peer();
    let mut covered = 0;
    for &key in ApiKey::ALL {
        for direction in DIRECTIONS {
            for version in versions(key) {
                for value in 0..VALUES {
                    let seed = value << 32 | (version as u64) << 16 | key.code() as u64;
                    let body = Body::generate(&mut Source::new(seed), key, version, direction);
                    let ours = body.encode(version);
                    let what = format!("{} v{version} {direction}, seed {seed}", key.name());
                    let command = format!("message {} {version} {direction} {}", key.code(), hex(&ours));
                    let (theirs, text) = peer.ask_message(&command).unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!(hex(&theirs), hex(&ours), "{what}: written back");
                    assert_eq!(text, body.print_like_kafka(), "{what}: understood");
                    assert_eq!(Body::decode(theirs.into(), key, version, direction), Ok(body), "{what}: read back");
                }
                covered += 1;
            }
            let (first, last) = (key.min_version(), key.max_version());
            println!("{:>2} {} {direction}: {first} to {last}", key.code(), key.name());
        }
    }
    println!("{covered} pairs of (version, direction) compared with kafka-clients, {VALUES} values each");
    let all: usize = ApiKey::ALL.iter().map(|&key| 2 * versions(key).count()).sum();
    assert_eq!(covered, all);
}

#[test]
fn defaults_are_those_of_kafka() {
    let mut peer = peer();
    let mut compared = 0;
    for &key in ApiKey::ALL {
        for direction in DIRECTIONS {
            for version in versions(key) {
                let what = format!("{} v{version} {direction}", key.name());
                let ours = Body::default_of(key, direction);
                let theirs = peer.ask_message(&format!("default {} {version} {direction}", key.code()));
                match (theirs, ours.try_encode(version)) {
                    (Ok((bytes, text)), Ok(ours_bytes)) => {
                        assert_eq!(hex(&bytes), hex(&ours_bytes), "{what}");
                        assert_eq!(text, ours.print_like_kafka(), "{what}");
                        compared += 1;
                    }
                    // A default that a version cannot carry is refused by both.
                    (Err(_), Err(_)) => {}
                    (theirs, ours) => panic!("{what}: Kafka {theirs:?}, we {ours:?}"),
                }
            }
        }
    }
    println!("{compared} default messages compared");
    assert!(compared > 200, "{compared}");
}

#[test]
fn versions_and_headers_are_those_of_kafka() {
    let mut peer = peer();
    for offered in &api_versions::TABLE {
        let key = offered.key;
        let expected = format!("{} {}", offered.min, offered.max);
        assert_eq!(peer.ask(&format!("versions {}", key.code())), expected, "{}", key.name());
        for version in versions(key) {
            let header = RequestHeader { key, version, correlation_id: 7, client_id: Some(Text::from_static("me")) };
            let mut encoder = Encoder::new();
            header.encode(&mut encoder).expect("encodes");
            // Two bytes key, two version, four correlation id, four client id; tagged fields take one more.
            let request = encoder.length() - 12 + 1;
            let mut encoder = Encoder::new();
            ResponseHeader { correlation_id: 7 }.encode(&mut encoder, key, version);
            let response = encoder.length() - 4;
            let expected = format!("{request} {response}");
            assert_eq!(peer.ask(&format!("header {} {version}", key.code())), expected, "{} v{version}", key.name());
        }
    }
}

#[test]
fn error_codes_are_those_of_kafka() {
    let ours: Vec<String> = ErrorCode::ALL
        .iter()
        .map(|error| format!("{},{},{}", error.code(), error.name(), error.is_retriable()))
        .collect();
    assert_eq!(peer().ask("errors"), ours.join(" "));
    for &error in ErrorCode::ALL {
        assert_eq!(ErrorCode::from_code(error.code()), Some(error));
    }
}
