// SPDX-License-Identifier: Apache-2.0
//! Sessions as clients meet them: scenarios after Kafka's `FetchSessionTest`, and a client whose picture must be at all
//! times what answers without sessions would have given it.
use std::collections::BTreeMap;

use bytes::Bytes;
use odradek_wire::messages::ForgottenTopic;
use proptest::prelude::*;

use super::cache::KEPT_MS;
use super::*;

const V_NAMES: i16 = 12;
const V_IDS: i16 = 17;

fn position(fetch_offset: i64) -> Position {
    Position { fetch_offset, max_bytes: 100, leader_epoch: 1, last_fetched_epoch: -1, log_start_offset: -1 }
}

/// A request of one topic, by name and id; the version says which counts.
#[derive(Clone)]
struct Client {
    version: i16,
    is_follower: bool,
    id: i32,
    epoch: i32,
    topic: u128,
}

impl Client {
    fn new(version: i16) -> Self {
        Self { version, is_follower: false, id: 0, epoch: 0, topic: 1 }
    }

    fn topic(&self) -> (Text, Uuid) {
        if self.version >= BY_ID { (Text::default(), Uuid::from_u128(self.topic)) } else { ("t".into(), Uuid::nil()) }
    }

    fn request(&self, named: &[(i32, i64)], forgotten: &[i32]) -> FetchRequest {
        let (topic, topic_id) = self.topic();
        let partition = |(partition, offset): &(i32, i64)| FetchPartition {
            partition: *partition,
            fetch_offset: *offset,
            partition_max_bytes: 100,
            current_leader_epoch: 1,
            ..FetchPartition::default()
        };
        let partitions: Vec<_> = named.iter().map(partition).collect();
        let mut request = FetchRequest { session_id: self.id, session_epoch: self.epoch, ..FetchRequest::default() };
        if !named.is_empty() {
            request.topics.push(FetchTopic { topic: topic.clone(), topic_id, partitions });
        }
        if !forgotten.is_empty() {
            request.forgotten_topics_data.push(ForgottenTopic { topic, topic_id, partitions: forgotten.to_vec() });
        }
        request
    }

    fn begin(
        &self,
        sessions: &FetchSessions,
        named: &[(i32, i64)],
        forgotten: &[i32],
        now: i64,
    ) -> Result<(Vec<Requested>, Turn), ErrorCode> {
        let request = self.request(named, forgotten);
        let asked = SessionRequest { version: self.version, request: &request, is_follower: self.is_follower };
        sessions.begin(&asked, MonotonicTime(now))
    }

    /// A whole exchange in which each partition has what `read` says: which partitions were read, and which named.
    fn fetch(
        &mut self,
        sessions: &FetchSessions,
        named: &[(i32, i64)],
        forgotten: &[i32],
        now: i64,
        read: impl Fn(i32) -> PartitionData,
    ) -> Result<(Vec<i32>, Vec<i32>), ErrorCode> {
        let (requested, turn) = self.begin(sessions, named, forgotten, now)?;
        let read_partitions: Vec<i32> = requested.iter().map(|at| at.partition).collect();
        let data: Vec<PartitionData> = read_partitions.iter().map(|partition| read(*partition)).collect();
        let ended = sessions.end(&turn, requested.iter().zip(&data), MonotonicTime(now), random());
        if ended.error != ErrorCode::None {
            return Err(ended.error);
        }
        self.id = ended.session_id;
        self.epoch = if ended.session_id == NO_SESSION { OPEN } else { self.epoch + 1 };
        let told = match ended.named {
            Named::All => read_partitions.clone(),
            Named::These(these) => {
                read_partitions.iter().zip(these).filter(|(_, named)| *named).map(|(partition, _)| *partition).collect()
            }
            Named::None => Vec::new(),
        };
        Ok((read_partitions, told))
    }
}

/// Numbers that no two calls in a process share, so that ids are not met twice by chance.
fn random() -> impl FnMut() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    || NEXT.fetch_add(1, Ordering::Relaxed)
}

fn data(high_watermark: i64, log_start_offset: i64) -> PartitionData {
    PartitionData { high_watermark, log_start_offset, records: Some(Bytes::new().into()), ..PartitionData::default() }
}

fn with_records(data: PartitionData) -> PartitionData {
    PartitionData { records: Some(Bytes::from_static(b"records").into()), ..data }
}

fn failed(code: ErrorCode) -> PartitionData {
    PartitionData { error_code: code.code(), ..data(-1, -1) }
}

#[test]
fn a_session_names_what_has_changed_alone() {
    let sessions = FetchSessions::new(10, 30_000);
    for version in [V_NAMES, V_IDS] {
        let mut client = Client::new(version);
        let first = client.fetch(&sessions, &[(0, 5), (1, 6), (2, 7)], &[], 0, |_| data(10, 0));
        assert_eq!(first, Ok((vec![0, 1, 2], vec![0, 1, 2])), "the first answer names all");
        assert!(client.id > 0);
        assert_eq!(client.epoch, 1);
        let quiet = client.fetch(&sessions, &[], &[], 1, |_| data(10, 0));
        assert_eq!(quiet, Ok((vec![0, 1, 2], vec![])));
        // A position that has changed is read from, and is no news.
        let (requested, _) = client.begin(&sessions, &[(1, 60)], &[], 2).expect("in turn");
        assert_eq!(requested[1].position, position(60));
        assert_eq!(requested[0].position, position(5));
        client.epoch += 1;
        let news = |partition| match partition {
            0 => data(11, 0),
            1 => data(10, 1),
            _ => data(10, 0),
        };
        assert_eq!(client.fetch(&sessions, &[], &[], 3, news), Ok((vec![0, 1, 2], vec![0, 1])));
        assert_eq!(client.fetch(&sessions, &[], &[], 4, news), Ok((vec![0, 1, 2], vec![])), "told once");
        // A new partition is always told, one that is forgotten never again.
        assert_eq!(client.fetch(&sessions, &[(3, 0)], &[0], 5, news), Ok((vec![1, 2, 3], vec![3])));
    }
}

#[test]
fn errors_other_logs_and_nearer_replicas_are_told_each_time() {
    let sessions = FetchSessions::new(10, 30_000);
    let mut client = Client::new(V_IDS);
    client.fetch(&sessions, &[(0, 0), (1, 0), (2, 0)], &[], 0, |_| data(10, 0)).expect("opened");
    let bad = |partition| match partition {
        0 => failed(ErrorCode::NotLeaderOrFollower),
        1 => PartitionData { preferred_read_replica: 2, ..data(10, 0) },
        _ => PartitionData {
            diverging_epoch: odradek_wire::messages::FetchEpochEndOffset { epoch: 1, end_offset: 5 },
            ..data(10, 0)
        },
    };
    for now in 1..3 {
        assert_eq!(client.fetch(&sessions, &[], &[], now, bad), Ok((vec![0, 1, 2], vec![0, 1, 2])));
    }
    // The client hears that an error is over.
    assert_eq!(client.fetch(&sessions, &[], &[], 3, |_| data(10, 0)), Ok((vec![0, 1, 2], vec![0])));
    assert_eq!(client.fetch(&sessions, &[], &[], 4, |_| data(10, 0)), Ok((vec![0, 1, 2], vec![])));
}

/// Of a follower's session: which partitions a request looks at, and the turn to end it with.
fn looked_at(sessions: &FetchSessions, client: &mut Client, named: &[(i32, i64)], now: i64) -> (Vec<Requested>, Turn) {
    let (requested, turn) = client.begin(sessions, named, &[], now).expect("in turn");
    client.epoch += 1;
    (requested, turn)
}

fn end(sessions: &FetchSessions, (requested, turn): &(Vec<Requested>, Turn), now: i64) {
    let read: Vec<_> =
        requested.iter().map(|at| PartitionData { partition_index: at.partition, ..data(5, 0) }).collect();
    sessions.end(turn, requested.iter().zip(&read), MonotonicTime(now), random());
}

fn partitions((requested, _): &(Vec<Requested>, Turn)) -> Vec<i32> {
    requested.iter().map(|at| at.partition).collect()
}

#[test]
fn a_followers_request_looks_at_what_may_have_changed_and_at_all_twice_a_second() {
    let sessions = FetchSessions::new(10, 30_000);
    let mut follower = opened(&sessions, true, 4, 0).expect("there is room");
    // Nothing is watched before the first look at all.
    let all = looked_at(&sessions, &mut follower, &[], 10);
    assert_eq!(partitions(&all), [0, 1, 2, 3]);
    let mut wakers: Vec<_> = all.0.iter().map(|at| Some(all.1.waker(at).expect("it is watched"))).collect();
    for at in &all.0[..3] {
        all.1.arm(at, ());
    }
    end(&sessions, &all, 10);

    let some = looked_at(&sessions, &mut follower, &[(1, 6)], 20);
    assert_eq!(partitions(&some), [1, 3], "who is named, and who is not armed");
    assert!(some.1.is_watched() && some.1.is_armed(&all.0[0]) && !some.1.is_armed(&all.0[1]));
    assert!(some.1.fired().is_empty());
    (wakers[0].take().expect("not used"))();
    assert_eq!(some.1.fired().iter().map(|at| at.partition).collect::<Vec<_>>(), [0], "while the request waits");
    assert!(some.1.fired().is_empty(), "once");
    end(&sessions, &some, 20);

    // 2 alone is armed by now, and fires between two requests; 1 fires late.
    (wakers[2].take().expect("not used"))();
    (wakers[1].take().expect("not used"))();
    let some = looked_at(&sessions, &mut follower, &[], 30);
    assert_eq!(partitions(&some), [0, 1, 2, 3]);
    for at in &some.0 {
        some.1.arm(at, ());
    }
    end(&sessions, &some, 30);
    let none = looked_at(&sessions, &mut follower, &[], 40);
    assert_eq!(partitions(&none), [0; 0]);
    end(&sessions, &none, 40);
    let all = looked_at(&sessions, &mut follower, &[], 510);
    assert_eq!(partitions(&all), [0, 1, 2, 3]);
    // The same request comes again, while the first one holds the watch.
    follower.epoch -= 1;
    assert!(follower.begin(&sessions, &[], &[], 511).is_err());
    follower.epoch += 1;
    let newer = looked_at(&sessions, &mut follower, &[], 520);
    assert_eq!(partitions(&newer), [0, 1, 2, 3], "the watch is not there: all");
    end(&sessions, &all, 530);
    end(&sessions, &newer, 530);
    let some = looked_at(&sessions, &mut follower, &[], 540);
    assert_eq!(partitions(&some), [0, 1, 2, 3], "the newer one's, which has armed nobody");
}

#[test]
fn what_failed_is_looked_at_again_though_it_was_armed() {
    let sessions = FetchSessions::new(10, 400);
    let mut follower = opened(&sessions, true, 2, 0).expect("there is room");
    let all = looked_at(&sessions, &mut follower, &[], 10);
    all.0.iter().for_each(|at| all.1.arm(at, ()));
    let read = [failed(ErrorCode::NotLeaderOrFollower), data(5, 0)];
    sessions.end(&all.1, all.0.iter().zip(&read), MonotonicTime(10), random());
    let some = looked_at(&sessions, &mut follower, &[], 109);
    assert_eq!(partitions(&some), [0]);
    end(&sessions, &some, 109);
    let all = looked_at(&sessions, &mut follower, &[], 110);
    assert_eq!(partitions(&all), [0, 1], "a quarter of the time after which a follower lags");
    assert!(
        !looked_at(&sessions, &mut opened(&sessions, false, 2, 0).expect("room"), &[], 1).1.is_watched(),
        "a consumer"
    );
}

#[test]
fn who_got_records_is_read_last_the_next_time() {
    let sessions = FetchSessions::new(10, 30_000);
    let mut client = Client::new(V_IDS);
    let first = |partition| if partition == 0 { with_records(data(10, 0)) } else { data(10, 0) };
    client.fetch(&sessions, &[(0, 0), (1, 0), (2, 0)], &[], 0, first).expect("opened");
    let second = |partition| if partition == 1 { with_records(data(10, 0)) } else { data(10, 0) };
    assert_eq!(client.fetch(&sessions, &[], &[], 1, second), Ok((vec![0, 1, 2], vec![1])));
    assert_eq!(client.fetch(&sessions, &[], &[], 2, first), Ok((vec![0, 2, 1], vec![0])));
    assert_eq!(client.fetch(&sessions, &[], &[], 3, |_| data(10, 0)), Ok((vec![2, 1, 0], vec![])));
}

#[test]
fn requests_out_of_turn_and_of_other_kinds_are_refused() {
    let sessions = FetchSessions::new(10, 30_000);
    let mut client = Client::new(V_IDS);
    client.fetch(&sessions, &[(0, 0)], &[], 0, |_| data(1, 0)).expect("opened");
    let refused = |client: &Client| client.begin(&sessions, &[], &[], 1).map(|_| ()).expect_err("refused");
    assert_eq!(refused(&Client { epoch: 2, ..client.clone() }), ErrorCode::InvalidFetchSessionEpoch);
    assert_eq!(refused(&Client { id: client.id + 1_000_000, ..client.clone() }), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(refused(&Client { id: 0, ..client.clone() }), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(refused(&Client { version: V_NAMES, ..client.clone() }), ErrorCode::FetchSessionTopicIdError);
    assert_eq!(refused(&Client { is_follower: true, ..client.clone() }), ErrorCode::FetchSessionIdNotFound);
    let mut named = Client::new(V_NAMES);
    named.fetch(&sessions, &[(0, 0)], &[], 0, |_| data(1, 0)).expect("opened");
    assert_eq!(refused(&Client { version: V_IDS, ..named.clone() }), ErrorCode::FetchSessionTopicIdError);
    // None of it has cost anybody a turn.
    assert_eq!(client.fetch(&sessions, &[], &[], 2, |_| data(1, 0)), Ok((vec![0], vec![])));
}

#[test]
fn the_second_answer_to_one_request_is_refused() {
    let sessions = FetchSessions::new(10, 30_000);
    let mut client = Client::new(V_IDS);
    client.fetch(&sessions, &[(0, 0)], &[], 0, |_| data(1, 0)).expect("opened");
    let (requested, late) = client.begin(&sessions, &[], &[], 1).expect("in turn");
    client.epoch += 1;
    client.fetch(&sessions, &[], &[], 2, |_| data(1, 0)).expect("the next came before the answer to the first");
    let read = [data(2, 0)];
    let ended = sessions.end(&late, requested.iter().zip(&read), MonotonicTime(3), random());
    assert_eq!((ended.error, ended.session_id), (ErrorCode::InvalidFetchSessionEpoch, client.id));
    assert_eq!(ended.named, Named::None);
}

#[test]
fn a_full_request_ends_the_session_that_it_names() {
    let sessions = FetchSessions::new(10, 30_000);
    for epoch in [OPEN, CLOSE] {
        let mut client = Client::new(V_IDS);
        client.fetch(&sessions, &[(0, 0)], &[], 0, |_| data(1, 0)).expect("opened");
        let old = client.id;
        client.epoch = epoch;
        let (_, told) = client.fetch(&sessions, &[(1, 0)], &[], 1, |_| data(1, 0)).expect("answered");
        assert_eq!(told, [1]);
        assert_ne!(client.id, old);
        assert_eq!(client.id == NO_SESSION, epoch == CLOSE);
        let gone = Client { id: old, epoch: 1, ..client.clone() };
        assert_eq!(gone.begin(&sessions, &[], &[], 2).map(|_| ()), Err(ErrorCode::FetchSessionIdNotFound));
    }
    // A consumer cannot end a replica's.
    let mut replica = Client { is_follower: true, ..Client::new(V_IDS) };
    replica.fetch(&sessions, &[(0, 0)], &[], 0, |_| data(1, 0)).expect("opened");
    Client { id: replica.id, ..Client::new(V_IDS) }.begin(&sessions, &[(0, 0)], &[], 0).expect("full");
    replica.fetch(&sessions, &[], &[], 1, |_| data(1, 0)).expect("it is still there");
}

#[test]
fn a_session_whose_last_partition_is_forgotten_ends() {
    let sessions = FetchSessions::new(10, 30_000);
    let mut client = Client::new(V_IDS);
    client.fetch(&sessions, &[(0, 0), (1, 0)], &[], 0, |_| data(1, 0)).expect("opened");
    assert_eq!(sessions.counts(), SessionCounts { sessions: 1, partitions: 2 });
    client.fetch(&sessions, &[], &[0], 1, |_| data(1, 0)).expect("one is left");
    assert_eq!(sessions.counts(), SessionCounts { sessions: 1, partitions: 1 });
    client.fetch(&sessions, &[], &[1, 7], 2, |_| data(1, 0)).expect("answered");
    assert_eq!((client.id, client.epoch), (NO_SESSION, OPEN));
    assert_eq!(sessions.counts(), SessionCounts::default());
}

#[test]
fn the_epoch_after_the_largest_is_one() {
    let mut session = Session::opened(true, [].into_iter());
    assert_eq!(session.epoch(), 1);
    assert_eq!(session.turn(), 2);
    let sessions = FetchSessions::new(10, 30_000);
    let mut client = Client::new(V_IDS);
    client.fetch(&sessions, &[(0, 0)], &[], 0, |_| data(1, 0)).expect("opened");
    let (_, turn) = client.begin(&sessions, &[], &[], 1).expect("in turn");
    let Turn::Next { session, .. } = turn else { panic!("it continues") };
    lock(&session).set_epoch(i32::MAX);
    client.epoch = i32::MAX;
    client.begin(&sessions, &[], &[], 2).expect("in turn");
    client.epoch = 1;
    client.begin(&sessions, &[], &[], 3).expect("in turn");
}

#[test]
fn a_partition_named_twice_is_read_once_where_it_stood_first() {
    let sessions = FetchSessions::new(10, 30_000);
    let client = Client::new(V_IDS);
    let (requested, _) = client.begin(&sessions, &[(0, 1), (1, 1), (0, 9)], &[], 0).expect("full");
    let at: Vec<_> = requested.iter().map(|at| (at.partition, at.position.fetch_offset)).collect();
    assert_eq!(at, [(0, 9), (1, 1)]);
}

#[test]
fn the_name_of_an_id_is_remembered() {
    let sessions = FetchSessions::new(10, 30_000);
    let mut client = Client::new(V_IDS);
    let (mut requested, turn) = client.begin(&sessions, &[(0, 0)], &[], 0).expect("full");
    assert_eq!(requested[0].resolved, None);
    requested[0].resolved = TopicName::new("t").ok();
    let read = [data(1, 0)];
    client.id = sessions.end(&turn, requested.iter().zip(&read), MonotonicTime(0), random()).session_id;
    client.epoch = 1;
    let (requested, _) = client.begin(&sessions, &[], &[], 1).expect("in turn");
    assert_eq!(requested[0].resolved.as_deref(), Some("t"));
}

// === which sessions are kept ===

fn opened(sessions: &FetchSessions, is_follower: bool, partitions: i32, now: i64) -> Option<Client> {
    let mut client = Client { is_follower, ..Client::new(V_IDS) };
    let named: Vec<_> = (0..partitions).map(|partition| (partition, 0)).collect();
    client.fetch(sessions, &named, &[], now, |_| data(1, 0)).expect("answered");
    Some(client).filter(|client| client.id != NO_SESSION)
}

fn is_there(sessions: &FetchSessions, client: &mut Client, now: i64) -> bool {
    client.fetch(sessions, &[], &[], now, |_| data(1, 0)).is_ok()
}

#[test]
fn a_new_session_of_a_consumer_takes_no_place_of_one_that_is_new_and_in_use() {
    let sessions = FetchSessions::new(2, 30_000);
    let mut first = opened(&sessions, false, 1, 0).expect("room");
    let mut second = opened(&sessions, false, 2, 0).expect("room");
    assert!(opened(&sessions, false, 100, 0).is_none());
    // Both are older and in use: the one with fewer partitions goes, before one with more.
    let old = KEPT_MS + 1;
    assert!(is_there(&sessions, &mut first, old) && is_there(&sessions, &mut second, old));
    assert!(opened(&sessions, false, 1, old).is_none(), "it names no more than the smallest");
    assert!(opened(&sessions, false, 2, old).is_some());
    assert!(!is_there(&sessions, &mut first, old));
    assert!(is_there(&sessions, &mut second, old));
    assert_eq!(sessions.cache().evictions(), 1);
}

#[test]
fn what_is_not_used_goes_first() {
    let sessions = FetchSessions::new(2, 30_000);
    let mut large = opened(&sessions, true, 9, 0).expect("room");
    let mut small = opened(&sessions, false, 1, 1).expect("room");
    let later = KEPT_MS + 1;
    assert!(is_there(&sessions, &mut small, later));
    assert!(opened(&sessions, false, 1, later).is_some(), "a replica's goes too if it is not used");
    assert!(!is_there(&sessions, &mut large, later));
    assert!(is_there(&sessions, &mut small, later));
}

#[test]
fn replicas_take_the_places_of_consumers_and_never_the_other_way_round() {
    let sessions = FetchSessions::new(2, 30_000);
    let mut small = opened(&sessions, false, 3, 0).expect("room");
    let mut large = opened(&sessions, false, 5, 0).expect("room");
    let mut replica = opened(&sessions, true, 1, 0).expect("it takes a consumer's");
    assert!(!is_there(&sessions, &mut small, 0));
    let mut second = opened(&sessions, true, 1, 0).expect("it takes a consumer's");
    assert!(!is_there(&sessions, &mut large, 0));
    assert!(opened(&sessions, true, 9, 0).is_none(), "replicas' new ones stay");
    let old = KEPT_MS + 1;
    assert!(is_there(&sessions, &mut replica, old) && is_there(&sessions, &mut second, old));
    assert!(opened(&sessions, false, 50, old).is_none());
    assert!(opened(&sessions, true, 9, old).is_some(), "a larger one of a replica takes that of a smaller");
}

#[test]
fn without_places_there_are_no_sessions() {
    let sessions = FetchSessions::new(0, 30_000);
    assert!(opened(&sessions, true, 1, 0).is_none());
    assert_eq!(sessions.counts(), SessionCounts::default());
}

#[test]
fn memory_is_bounded_whatever_clients_name() {
    let sessions = FetchSessions::new(1_000, 30_000);
    let mut kept = 0;
    let mut first = opened(&sessions, false, 1, 0).expect("room");
    for _ in 0..40 {
        kept += usize::from(opened(&sessions, false, 4_000, 0).is_some());
    }
    assert!((20..30).contains(&kept), "{kept} of 40 sessions with 4,000 partitions each");
    let counts = sessions.counts();
    assert_eq!((counts.sessions, counts.partitions), (kept + 1, kept * 4_000 + 1));
    // One that grows beyond what is left ends; its client opens another and is answered without.
    let many: Vec<_> = (0..100_000).map(|partition| (partition, 0)).collect();
    let refused = first.fetch(&sessions, &many, &[], 1, |_| data(1, 0));
    assert_eq!(refused, Err(ErrorCode::FetchSessionIdNotFound));
    assert_eq!(sessions.counts().sessions, kept);
    assert!(opened(&sessions, true, 4_000, 1).is_some(), "replicas take the memory of consumers");
    assert_eq!(sessions.counts().sessions, kept);
    let names: Vec<_> = (0..200_000).map(|partition| (partition, 0)).collect();
    first.id = 0;
    first.epoch = 0;
    first.fetch(&sessions, &names, &[], 2, |_| data(1, 0)).expect("answered");
    assert_eq!(first.id, NO_SESSION);
    assert_eq!(sessions.counts().sessions, kept, "what can never fit evicts nobody");
}

// === a client's picture ===

#[derive(Clone, Debug)]
enum Step {
    Append { partition: usize },
    Trim { partition: usize },
    Fail { partition: usize },
    Add { partition: usize },
    Forget { partition: usize },
    Rewind { partition: usize },
    Fetch { answer_is_lost: bool },
    Evict,
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..6usize;
    prop_oneof![
        3 => at.clone().prop_map(|partition| Step::Append { partition }),
        1 => at.clone().prop_map(|partition| Step::Trim { partition }),
        1 => at.clone().prop_map(|partition| Step::Fail { partition }),
        2 => at.clone().prop_map(|partition| Step::Add { partition }),
        1 => at.clone().prop_map(|partition| Step::Forget { partition }),
        1 => at.prop_map(|partition| Step::Rewind { partition }),
        6 => (0..8u8).prop_map(|lost| Step::Fetch { answer_is_lost: lost == 0 }),
        1 => Just(Step::Evict),
    ]
}

/// What the broker has.
#[derive(Clone, Copy, Default)]
struct Truth {
    start: i64,
    end: i64,
    fails: bool,
}

impl Truth {
    fn read(self, offset: i64) -> PartitionData {
        if self.fails {
            return failed(ErrorCode::KafkaStorageError);
        }
        let answer = data(self.end, self.start);
        if offset < self.end { with_records(answer) } else { answer }
    }
}

/// What a client knows of a partition: watermark, start, error.
type Picture = (i64, i64, i16);

fn picture(data: &PartitionData) -> Picture {
    (data.high_watermark, data.log_start_offset, data.error_code)
}

proptest! {
    #[test]
    fn a_client_knows_what_it_would_know_without_a_session(
        steps in proptest::collection::vec(step(), 1..120),
        version in prop_oneof![Just(V_NAMES), Just(V_IDS)],
    ) {
        let sessions = FetchSessions::new(1, 30_000);
        let mut client = Client::new(version);
        let mut truth = [Truth::default(); 6];
        // What the client wants, and what it has told the broker that it wants.
        let mut wanted: BTreeMap<i32, i64> = BTreeMap::new();
        let mut told: BTreeMap<i32, i64> = BTreeMap::new();
        let mut known: BTreeMap<i32, Picture> = BTreeMap::new();
        for (now, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append { partition } => truth[partition].end += 1,
                Step::Trim { partition } => truth[partition].start = truth[partition].end,
                Step::Fail { partition } => truth[partition].fails = !truth[partition].fails,
                Step::Add { partition } => { wanted.entry(partition as i32).or_insert(0); }
                Step::Forget { partition } => { wanted.remove(&(partition as i32)); }
                Step::Rewind { partition } => { wanted.entry(partition as i32).and_modify(|offset| *offset = 0); }
                Step::Evict => { opened(&sessions, true, 1, 0); }
                Step::Fetch { answer_is_lost } => {
                    let is_full = client.epoch == OPEN;
                    if is_full {
                        told.clear();
                        known.clear();
                    }
                    let named: Vec<_> =
                        wanted.iter().filter(|(p, offset)| told.get(p) != Some(offset)).map(|(p, o)| (*p, *o)).collect();
                    let forgotten: Vec<_> = told.keys().filter(|p| !wanted.contains_key(p)).copied().collect();
                    let before = client.clone();
                    let offsets = wanted.clone();
                    let read = |partition: i32| truth[partition as usize].read(offsets[&partition]);
                    match client.fetch(&sessions, &named, &forgotten, now as i64, read) {
                        Err(error) => {
                            prop_assert!(!is_full, "{error:?}");
                            client = Client::new(version);
                        }
                        Ok(_) if answer_is_lost => {
                            // The client asks again as before, is out of turn, and begins anew.
                            if !is_full && client.id != NO_SESSION {
                                let refused = before.begin(&sessions, &[], &[], now as i64).map(|_| ());
                                prop_assert_eq!(refused, Err(ErrorCode::InvalidFetchSessionEpoch));
                            }
                            client = Client { id: client.id, epoch: OPEN, ..client };
                        }
                        Ok((read_partitions, answered)) => {
                            let mut all: Vec<_> = read_partitions.clone();
                            all.sort_unstable();
                            prop_assert_eq!(&all, &wanted.keys().copied().collect::<Vec<_>>());
                            known.retain(|partition, _| wanted.contains_key(partition));
                            for partition in &answered {
                                known.insert(*partition, picture(&truth[*partition as usize].read(wanted[partition])));
                            }
                            told = wanted.clone();
                            for (partition, offset) in &mut wanted {
                                let now = truth[*partition as usize];
                                prop_assert_eq!(known[partition], picture(&now.read(*offset)), "partition {}", partition);
                                let has_records = !now.fails && *offset < now.end;
                                prop_assert!(!has_records || answered.contains(partition), "records are not lost");
                                if has_records {
                                    *offset += 1;
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
