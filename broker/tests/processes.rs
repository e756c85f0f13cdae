// SPDX-License-Identifier: Apache-2.0
//! The binary as processes of their own that share a machine and a Lease in a file: what is refused, by which words, and
//! the order to go on without a voter that is gone for good. It knows configuration files, exit codes, the HTTP port and
//! what is written to standard error.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test says what went wrong by failing")]
#[path = "../runtime/tests/support/ports.rs"]
mod ports;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ports::free_ports;

const BINARY: &str = env!("CARGO_BIN_EXE_odradek-broker");
const PATIENCE: Duration = Duration::from_secs(30);

/// Where one broker is, and its configuration file.
struct Site {
    folder: PathBuf,
    http: u16,
    private: u16,
    plain: u16,
    id: usize,
}

impl Site {
    fn new(root: &Path, name: &str, id: usize) -> Self {
        let [http, private, plain] = free_ports();
        Self { folder: root.join(name), http, private, plain, id }
    }

    fn config_file(&self) -> PathBuf {
        self.folder.with_extension("yaml")
    }

    /// Writes the configuration of this broker in a cluster of these.
    fn configure(&self, root: &Path, cluster: &str, all: &[&Self]) {
        let brokers =
            all.iter().map(|site| format!("- {{id: {}, host: 127.0.0.1, port: {}}}\n", site.id, site.private));
        let brokers = brokers.collect::<String>();
        std::fs::write(root.join("secret"), "what these brokers share").unwrap();
        let Self { folder, http, private, plain, id } = self;
        let (folder, root) = (folder.display(), root.display());
        let text = format!(
            "clusterId: {cluster}\nbrokerId: {id}\ndataFolder: {folder}\nlisteners:\n\
             - {{name: plain, bind: \"127.0.0.1:{plain}\"}}\n- {{name: private, bind: \"127.0.0.1:{private}\"}}\n\
             http: \"127.0.0.1:{http}\"\nclusterSecretFile: {root}/secret\n\
             coordination:\n  local: {{leaseFile: {root}/lease}}\nbrokers:\n{brokers}"
        );
        std::fs::write(self.config_file(), text).unwrap();
    }

    fn start(&self) -> Process {
        let errors = self.folder.with_extension("log");
        let file = std::fs::File::options().create(true).append(true).open(&errors).unwrap();
        let child = Command::new(BINARY)
            .args(["run", "--config"])
            .arg(self.config_file())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Process { child, errors, http: self.http }
    }

    fn recover(&self, arguments: &[&str]) -> Output {
        Command::new(BINARY).args(["recover", "--config"]).arg(self.config_file()).args(arguments).output().unwrap()
    }

    /// As the Lease and the broker's log name it.
    fn voter(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("odradek-meta.json")).unwrap();
        let directory = text.split("\"directoryId\":").nth(1).unwrap().split('"').nth(1).unwrap();
        format!("{}:{directory}", self.id)
    }
}

struct Process {
    child: Child,
    errors: PathBuf,
    http: u16,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap()
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "{what}: {ended:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn serves(&mut self) {
        self.until("serving", |process| {
            process.get("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        });
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn says(&mut self, text: &str) {
        self.until(text, |process| process.log().contains(text));
    }

    /// Waits for its end, which is to be a failure with one line that says this.
    fn ends_saying(mut self, text: &str) {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "it goes on:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        };
        let log = self.log();
        let last = log.lines().last().unwrap_or_default();
        assert!(!status.success() && last.starts_with("odradek-broker: ") && last.contains(text), "{status}\n{log}");
    }
}

#[test]
fn a_malformed_or_foreign_lease_is_refused_by_name_and_nothing_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let site = Site::new(root, "broker", 0);
    site.configure(root, "one", &[&site]);
    let mut process = site.start();
    process.serves();
    let lease = root.join("lease");
    let whole = std::fs::read_to_string(&lease).unwrap();
    let holder = whole.split("\"holderIdentity\": ").nth(1).unwrap().lines().next().unwrap();
    let cases = [
        ("{", "EOF while parsing"),
        (&*whole.replace(holder, "\"somebody\","), "somebody"),
        (&*whole.replace("\"one\"", "\"other\""), "it belongs to cluster other, not to one"),
        (&*whole.replace("\"leaseTransitions\": ", "\"leaseTransitions\": -"), "a negative count"),
    ];
    for (text, named) in cases {
        assert_ne!(text, whole);
        // While it leads it goes on, and says so.
        std::fs::write(&lease, text).unwrap();
        process.says(named);
        process.serves();
        // Without a Lease that it understands it waits, and changes nothing.
        drop(process);
        std::fs::write(site.folder.with_extension("log"), "").unwrap();
        process = site.start();
        process.says(named);
        assert!(!process.get("/readyz").unwrap_or_default().starts_with("HTTP/1.1 200"), "{}", process.log());
        assert_eq!(std::fs::read_to_string(&lease).unwrap(), text, "it was not written over");
        std::fs::write(&lease, &whole).unwrap();
        process.serves();
        std::fs::write(site.folder.with_extension("log"), "").unwrap();
    }
}

#[test]
fn a_second_process_of_a_folder_or_of_a_broker_id_is_refused_in_one_line() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let sites = [0, 1].map(|id| Site::new(root, &format!("broker-{id}"), id));
    for site in &sites {
        site.configure(root, "two", &[&sites[0], &sites[1]]);
    }
    // Broker 0 is there first, and controller.
    let mut first = sites[0].start();
    first.serves();
    let mut second = sites[1].start();
    second.serves();

    // Of the controller, which nobody else could refuse, and of another broker: a folder of its own, and the same one.
    for (id, site) in sites.iter().enumerate() {
        let again = Site::new(root, &format!("again-{id}"), id);
        let text = std::fs::read_to_string(site.config_file()).unwrap();
        let text = text
            .replace(&format!(":{}\"", site.plain), &format!(":{}\"", again.plain))
            .replace(&format!(":{}\"", site.private), &format!(":{}\"", again.private))
            .replace(&format!(":{}\"", site.http), &format!(":{}\"", again.http));
        let own_folder = text.replace(&site.folder.display().to_string(), &again.folder.display().to_string());
        let lease = root.join("lease");
        let lock = format!("another process is broker {id}: it holds the lock {}-broker-{id}.lock", lease.display());
        for text in [&own_folder, &text] {
            std::fs::write(again.config_file(), text).unwrap();
            again.start().ends_saying(&lock);
            assert!(!again.folder.exists(), "nothing was changed");
        }

        // By another way to the same Lease the lock is not met: the folder's is.
        let way = root.join(format!("way-{id}"));
        std::os::unix::fs::symlink(&lease, &way).unwrap();
        let by_way = |text: &str| text.replace(&lease.display().to_string(), &way.display().to_string());
        std::fs::write(again.config_file(), by_way(&text)).unwrap();
        again.start().ends_saying("is in use by another process");
        // Nor is that one with a folder of its own: the controller refuses.
        if id == 1 {
            std::fs::write(again.config_file(), by_way(&own_folder)).unwrap();
            let mut other = again.start();
            other.says("another process is this broker; waiting for the end of its session");
            other.ends_saying("another process is registered as broker 1");
        }
    }
    first.serves();
    second.serves();
    for process in [&first, &second] {
        assert_eq!(process.log().matches("serving").count(), 1, "it did not notice:\n{}", process.log());
    }

    // A kill frees the id at once.
    drop(first);
    sites[0].start().serves();
}

#[test]
fn brokers_go_on_without_a_voter_that_is_gone_for_good_once_they_are_ordered_to() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let sites = [0, 1, 2].map(|id| Site::new(root, &format!("broker-{id}"), id));
    for site in &sites {
        site.configure(root, "three", &[&sites[0], &sites[1], &sites[2]]);
    }
    let mut processes: Vec<_> = sites.iter().map(Site::start).collect();
    processes.iter_mut().for_each(Process::serves);
    let lease = root.join("lease");
    let all: Vec<_> = sites.iter().map(Site::voter).collect();
    // Whoever is left has to have seen that it is one: what no survivor knows is lost.
    let names_all = |_: &Process| {
        sites.iter().all(|site| {
            let kept = std::fs::read(site.folder.join("__metadata/promise")).unwrap_or_default();
            let kept = String::from_utf8_lossy(&kept);
            all.iter().all(|voter| kept.contains(voter))
        })
    };
    processes[0].until("three voters", names_all);
    let refused = sites[0].recover(&["--without", &all[2]]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && text.starts_with("odradek-broker: nothing is to be recovered"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");

    drop(processes);
    std::fs::remove_dir_all(&sites[2].folder).unwrap();
    std::fs::remove_file(&lease).unwrap();
    for site in &sites {
        let _ = std::fs::remove_file(site.folder.with_extension("log"));
    }
    let mut processes: Vec<_> = sites[..2].iter().map(Site::start).collect();
    for process in &mut processes {
        process.says("which wait for the answers of these voters");
        assert!(process.log().contains(&all[2]), "{}", process.log());
    }
    // Judged and ordered beside brokers that wait.
    for site in &sites[..2] {
        let dry = site.recover(&["--without", &all[2], "--dry-run"]);
        assert!(dry.status.success(), "{dry:?}");
        let text = String::from_utf8(dry.stdout).unwrap();
        assert!(text.contains(&format!("Without {}:", all[2])), "{text}");
        assert!(text.ends_with("Nothing was written: this was a dry run.\n"), "{text}");
        assert!(!site.folder.join("recover-without").exists());
        let ordered = site.recover(&["--without", &all[2]]);
        assert!(ordered.status.success(), "{ordered:?}");
        assert_eq!(std::fs::read_to_string(site.folder.join("recover-without")).unwrap(), format!("{}\n", all[2]));
    }
    drop(processes);
    let mut processes: Vec<_> = sites[..2].iter().map(Site::start).collect();
    processes.iter_mut().for_each(Process::serves);
    assert!(!std::fs::read_to_string(&lease).unwrap().contains(&all[2]));
    for (process, site) in processes.iter_mut().zip(&sites) {
        process.until("the order to be removed", |_| !site.folder.join("recover-without").exists());
    }
}
