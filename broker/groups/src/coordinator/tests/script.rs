// SPDX-License-Identifier: Apache-2.0
//! The small language of the scenarios. `key=value` words after a verb; time is in milliseconds.
//!
//! `at T` moves the clock, doing what is due on the way. `auto off` leaves appends unanswered until `ok` or
//! `fail WHY` answers the oldest. `restart` loads a new coordinator from the journal; `new` makes a loading one.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use odradek_model::TopicId;

use crate::coordinator::GroupCoordinator;
use crate::messages::*;
use crate::records::{RecordKey, decode_group_value, decode_offset_value};
use crate::{AppendError, GroupSettings};

pub(super) struct Script {
    pub(super) coordinator: GroupCoordinator,
    settings: GroupSettings,
    now: i64,
    requests: u64,
    suffixes: u64,
    auto: bool,
    waiting: VecDeque<(AppendToken, Vec<JournalRecord>)>,
    pub(super) journal: Vec<JournalRecord>,
    out: String,
}

/// Runs the commands; the text with what came out of them.
pub(super) fn run(text: &str) -> String {
    let mut script = Script::new();
    let mut outcome = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            script.out.clear();
            script.command(command);
            script.coordinator.check();
            outcome.push_str(line);
            outcome.push('\n');
            outcome.push_str(&script.out);
        } else if line.is_empty() || line.starts_with('#') {
            outcome.push_str(line);
            outcome.push('\n');
        }
    }
    outcome
}

fn topic_id(text: &str) -> TopicId {
    TopicId(uuid::Uuid::from_u128(text.parse().expect("a small number as topic id")))
}

impl Script {
    pub(super) fn new() -> Self {
        let settings = GroupSettings::default();
        let mut coordinator = GroupCoordinator::new(settings.clone());
        coordinator.loaded(0);
        Self {
            coordinator,
            settings,
            now: 0,
            requests: 0,
            suffixes: 0,
            auto: true,
            waiting: VecDeque::new(),
            journal: Vec::new(),
            out: String::new(),
        }
    }

    fn command(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let verb = words.next().expect("a verb");
        let args: BTreeMap<&str, &str> = words.map(|word| word.split_once('=').unwrap_or((word, ""))).collect();
        let first = line.split_whitespace().nth(1).unwrap_or("");
        match verb {
            "at" => self.at(first.parse().expect("a time")),
            "auto" => self.auto = first == "on",
            "max-size" => {
                self.settings.max_size = first.parse().expect("a size");
                self.restart();
            }
            "retention" => {
                self.settings.offsets_retention_ms = first.parse().expect("a time");
                self.settings.offsets_retention_check_interval_ms = 1000;
                self.restart();
            }
            "ok" => self.answer(Ok(())),
            "fail" => self.answer(Err(match first {
                "not-leader" => AppendError::NotLeader,
                "timed-out" => AppendError::TimedOut,
                "storage" => AppendError::Storage,
                "too-large" => AppendError::TooLarge,
                "not-enough-replicas" => AppendError::NotEnoughReplicas,
                "unknown-partition" => AppendError::UnknownPartition,
                other => panic!("no such failure: {other}"),
            })),
            "restart" => self.restart(),
            "new" => self.coordinator = GroupCoordinator::new(self.settings.clone()),
            "loaded" => {
                let effects = self.coordinator.loaded(self.now);
                self.take(effects);
            }
            "unload" => {
                let effects = self.coordinator.unload();
                self.take(effects);
            }
            "rewrite" => match self.coordinator.rewrite() {
                Some(effect) => self.take(vec![effect]),
                None => self.out.push_str("  nothing to write, or already at it\n"),
            },
            "delete-topic" => {
                let id = args.get("id").map_or(TopicId::ZERO, |id| topic_id(id));
                let effects = self.coordinator.topics_deleted(&[(first, id)], self.now);
                self.take(effects);
            }
            "groups" => {
                for group in self.coordinator.groups() {
                    let members = group.members.join(" ");
                    let (id, state) = (&group.group_id, group.state.name());
                    writeln!(self.out, "  {id} {state} generation {} [{members}]", group.generation).expect("text");
                }
            }
            "describe" => self.describe(first),
            _ => self.request(verb, &args),
        }
    }

    fn describe(&mut self, group: &str) {
        let described = match self.coordinator.describe(group) {
            Ok(described) => described,
            Err(error) => return writeln!(self.out, "  {group} {error:?}").expect("text"),
        };
        let (state, kind, protocol) = (described.state.name(), &described.protocol_type, &described.protocol);
        writeln!(self.out, "  {group} {state} {kind:?}/{protocol:?}").expect("text");
        for member in described.members {
            let instance = member.group_instance_id.map(|id| format!("@{id}")).unwrap_or_default();
            let (id, client, host) = (member.member_id, member.client_id, member.client_host);
            let assignment = String::from_utf8_lossy(&member.assignment).into_owned();
            let metadata = member.metadata.len();
            writeln!(self.out, "    {id}{instance} {client}{host} says {metadata} bytes, has {assignment:?}")
                .expect("text");
        }
    }

    fn request(&mut self, verb: &str, args: &BTreeMap<&str, &str>) {
        let text = |key: &str, default: &str| -> Arc<str> { Arc::from(args.get(key).copied().unwrap_or(default)) };
        let number = |key: &str, default: i32| {
            args.get(key).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{key} is no number")))
        };
        let group_id = text("group", "g");
        let member_id = text("member", "");
        let instance = args.get("instance").map(|id| Arc::from(*id));
        let request = match verb {
            "join" => {
                let version = number("v", 9);
                self.suffixes += 1;
                Request::Join(JoinGroup {
                    group_id,
                    member_id,
                    group_instance_id: instance,
                    session_timeout_ms: number("session", 10_000),
                    rebalance_timeout_ms: number("rebalance", 30_000),
                    protocol_type: text("type", "consumer"),
                    protocols: protocols(args.get("protocols").copied().unwrap_or("range")),
                    client_id: text("client", "c"),
                    client_host: text("host", "/h"),
                    requires_known_member_id: version >= 4,
                    supports_skipping_assignment: version >= 9,
                    new_member_suffix: Arc::from(self.suffixes.to_string()),
                })
            }
            "sync" => Request::Sync(SyncGroup {
                group_id,
                generation_id: number("gen", 1),
                member_id,
                group_instance_id: instance,
                protocol_type: args.get("type").map(|t| Arc::from(*t)),
                protocol_name: args.get("protocol").map(|t| Arc::from(*t)),
                assignments: pairs(args.get("assign").copied().unwrap_or(""))
                    .map(|(id, assignment)| (Arc::from(id), Bytes::copy_from_slice(assignment.as_bytes())))
                    .collect(),
            }),
            "heartbeat" => Request::Heartbeat(Heartbeat {
                group_id,
                generation_id: number("gen", 1),
                member_id,
                group_instance_id: instance,
            }),
            "leave" => {
                let members = args.get("members").copied().unwrap_or("").split(',');
                let members = members.map(|member| match member.split_once('@') {
                    Some((id, instance)) => {
                        MemberIdentity { member_id: Arc::from(id), group_instance_id: Some(Arc::from(instance)) }
                    }
                    None => MemberIdentity { member_id: Arc::from(member), group_instance_id: None },
                });
                Request::Leave(LeaveGroup { group_id, members: members.collect() })
            }
            "commit" => {
                let mut topics: BTreeMap<&str, Vec<PartitionCommit>> = BTreeMap::new();
                let metadata = args.get("metadata-size").map(|size| "x".repeat(size.parse().expect("a size")));
                for (partition, offset) in pairs(args.get("offsets").copied().unwrap_or("t-0:1")) {
                    let (topic, partition) = partition.rsplit_once('-').expect("topic-partition");
                    topics.entry(topic).or_default().push(PartitionCommit {
                        partition: partition.parse().expect("a partition"),
                        offset: offset.parse().expect("an offset"),
                        leader_epoch: number("epoch", -1),
                        metadata: metadata.as_deref().or(args.get("metadata").copied()).map(Arc::from),
                    });
                }
                let id = args.get("id").map_or(TopicId::ZERO, |id| topic_id(id));
                let topics = topics.into_iter();
                Request::Commit(OffsetCommit {
                    group_id,
                    generation_id: number("gen", -1),
                    member_id,
                    group_instance_id: instance,
                    retention_time_ms: i64::from(number("retention", -1)),
                    knows_group_id_not_found: number("v", 9) >= 9,
                    topics: topics
                        .map(|(topic, partitions)| TopicCommit { topic: Arc::from(topic), topic_id: id, partitions })
                        .collect(),
                })
            }
            "fetch" => {
                let id = args.get("id").map_or(TopicId::ZERO, |id| topic_id(id));
                let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
                for partition in args.get("of").iter().flat_map(|of| of.split(',')) {
                    let (topic, partition) = partition.rsplit_once('-').expect("topic-partition");
                    topics.entry(topic).or_default().push(partition.parse().expect("a partition"));
                }
                let topics = topics
                    .into_iter()
                    .map(|(topic, partitions)| TopicFetch { topic: Arc::from(topic), topic_id: id, partitions })
                    .collect();
                Request::Fetch(OffsetFetch {
                    group_id,
                    topics: args.contains_key("of").then_some(topics),
                    require_stable: args.contains_key("stable"),
                })
            }
            other => panic!("no such command: {other}"),
        };
        self.requests += 1;
        let effects = self.coordinator.handle(RequestToken(self.requests), request, self.now);
        self.take(effects);
    }

    fn at(&mut self, time: i64) {
        while let Some(due) = self.coordinator.next_deadline().filter(|due| *due <= time) {
            self.now = self.now.max(due);
            let effects = self.coordinator.tick(self.now);
            self.take(effects);
        }
        self.now = time;
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply { token, response } => self.show(token, &response),
                Effect::Append { token, records } => {
                    for record in &records {
                        let text = describe(record);
                        writeln!(self.out, "  append {text}").expect("text");
                    }
                    self.waiting.push_back((token, records));
                }
            }
        }
        while self.auto && !self.waiting.is_empty() {
            self.answer(Ok(()));
        }
    }

    fn answer(&mut self, outcome: Result<(), AppendError>) {
        let (token, records) = self.waiting.pop_front().expect("an append waits");
        if outcome.is_ok() {
            self.journal.extend(records);
        }
        let effects = self.coordinator.appended(token, outcome, self.now);
        self.take(effects);
    }

    fn restart(&mut self) {
        self.waiting.clear();
        let mut coordinator = GroupCoordinator::new(self.settings.clone());
        for record in &self.journal {
            coordinator.replay(&record.key, record.value.as_deref(), self.now).expect("our own records");
        }
        self.coordinator = coordinator;
        let effects = self.coordinator.loaded(self.now);
        self.take(effects);
    }

    fn show(&mut self, token: RequestToken, response: &Response) {
        let text = match response {
            Response::Join(r) => {
                if let Some(error) = r.error {
                    format!("join {error:?} member={}", r.member_id)
                } else {
                    let members: Vec<String> = r
                        .members
                        .iter()
                        .map(|m| match &m.group_instance_id {
                            Some(instance) => format!("{}@{instance}", m.member_id),
                            None => m.member_id.to_string(),
                        })
                        .collect();
                    let (kind, protocol) =
                        (r.protocol_type.as_deref().unwrap_or("-"), r.protocol_name.as_deref().unwrap_or("-"));
                    let skip = if r.skip_assignment { " skip-assignment" } else { "" };
                    let (generation, leader, member) = (r.generation_id, &r.leader, &r.member_id);
                    let members = members.join(" ");
                    format!(
                        "join generation {generation} {kind}/{protocol} leader={leader} member={member} [{members}]{skip}"
                    )
                }
            }
            Response::Sync(r) => match r.error {
                Some(error) => format!("sync {error:?}"),
                None => format!("sync {:?}", String::from_utf8_lossy(&r.assignment)),
            },
            Response::Heartbeat(error) => format!("heartbeat {}", outcome(*error)),
            Response::Leave(r) => {
                let members: Vec<String> = r
                    .members
                    .iter()
                    .map(|(m, error)| {
                        let instance = m.group_instance_id.as_ref().map(|i| format!("@{i}")).unwrap_or_default();
                        format!("{}{instance} {}", m.member_id, outcome(*error))
                    })
                    .collect();
                format!("leave {} [{}]", outcome(r.error), members.join(", "))
            }
            Response::Commit(r) => {
                let partitions = r
                    .topics
                    .iter()
                    .flat_map(|t| t.partitions.iter().map(|(p, error)| format!("{}-{p} {}", t.topic, outcome(*error))));
                format!("commit {}", partitions.collect::<Vec<_>>().join(", "))
            }
            Response::Fetch(r) => {
                let partitions = r.topics.iter().flat_map(|t| {
                    t.partitions.iter().map(|p| {
                        format!("{}-{} {} epoch {} {:?}", t.topic, p.partition, p.offset, p.leader_epoch, p.metadata)
                    })
                });
                format!("fetch {} [{}]", outcome(r.error), partitions.collect::<Vec<_>>().join(", "))
            }
        };
        writeln!(self.out, "  #{} {text}", token.0).expect("text");
    }
}

fn outcome(error: Option<crate::GroupError>) -> String {
    error.map_or("ok".to_owned(), |error| format!("{error:?}"))
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(',').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once(':').unwrap_or((pair, "")))
}

/// `range:t1+t2,sticky`: protocols with the topics of a consumer's subscription.
fn protocols(text: &str) -> Vec<Protocol> {
    let protocol = |(name, topics): (&str, &str)| {
        let topics: Vec<&str> = topics.split('+').filter(|topic| !topic.is_empty()).collect();
        let mut metadata = vec![0, 1];
        metadata.extend_from_slice(&(topics.len() as i32).to_be_bytes());
        for topic in topics {
            metadata.extend_from_slice(&(topic.len() as i16).to_be_bytes());
            metadata.extend_from_slice(topic.as_bytes());
        }
        metadata.extend_from_slice(&[0xff; 4]);
        Protocol { name: Arc::from(name), metadata: Bytes::from(metadata) }
    };
    pairs(text).map(protocol).collect()
}

fn describe(record: &JournalRecord) -> String {
    match RecordKey::decode(&record.key).expect("our own key") {
        RecordKey::Offset { group, topic, partition } => match &record.value {
            None => format!("{group}/{topic}-{partition} tombstone"),
            Some(value) => {
                let value = decode_offset_value(value).expect("our own value");
                let expiry = value.expire_timestamp.map(|time| format!(" until {time}")).unwrap_or_default();
                format!("{group}/{topic}-{partition} = {} at {}{expiry}", value.offset, value.commit_timestamp)
            }
        },
        RecordKey::Group { group } => match &record.value {
            None => format!("{group} tombstone"),
            Some(value) => {
                let value = decode_group_value(value).expect("our own value");
                let members: Vec<String> = value
                    .members
                    .iter()
                    .map(|m| format!("{}={:?}", m.member_id, String::from_utf8_lossy(&m.assignment)))
                    .collect();
                let (protocol, leader) =
                    (value.protocol.as_deref().unwrap_or("-"), value.leader.as_deref().unwrap_or("-"));
                format!(
                    "{group} generation {} {:?}/{protocol} leader={leader} [{}]",
                    value.generation,
                    value.protocol_type,
                    members.join(" ")
                )
            }
        },
    }
}
