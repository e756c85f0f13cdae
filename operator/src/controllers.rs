// SPDX-License-Identifier: Apache-2.0
//! Watches and queues: which change leads to a pass over which resource. Decides nothing else.
//!
//! Only Clusters and Topics are kept in memory, without managed fields; of everything else the
//! watches carry metadata alone. One object that cannot be read does not stop a watch.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::{self, BoxStream, SelectAll};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::jiff::Timestamp;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, ReconcileRequest, trigger_with};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Config, WatchStreamExt, applier, watcher};
use kube::{Client, Resource, ResourceExt};
use odradek_crds::{Cluster, Topic, names};
use serde::de::DeserializeOwned;
use tracing::{debug, warn};

use crate::cluster::{self, ReconcileError};
use crate::context::Context;
use crate::kafka::ClusterKey;
use crate::topic::{self, fetch::is_reached};
use crate::triggers::{self, Change, Place, Seen};
use crate::unreadable;

/// Clusters worked on at once: a pass is some 20 calls, mostly waiting.
const CLUSTERS_AT_ONCE: u16 = 8;
/// Topics worked on at once; they share one connection per Cluster.
const TOPICS_AT_ONCE: u16 = 16;
/// Changes within this time lead to one pass.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Wait after an error.
const ERROR_WAIT: Duration = Duration::from_secs(5);
/// A pass may take this long in all: every call of it has a deadline, this bounds their sum.
const PASS_DEADLINE: Duration = Duration::from_mins(2);

type Guarded<K> = DeserializeGuard<K>;
type Queue<K> = SelectAll<BoxStream<'static, Result<ReconcileRequest<Guarded<K>>, watcher::Error>>>;

/// Which namespaces are watched.
#[derive(Clone, Debug)]
pub enum Scope {
    /// All of them.
    All,
    /// One; several are several runs.
    Namespace(String),
}

impl Scope {
    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        match self {
            Self::All => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

/// Works on the Clusters and Topics of a scope, for ever.
pub async fn run(scope: Scope, context: Arc<Context>) {
    tokio::join!(run_clusters(scope.clone(), Arc::clone(&context)), run_topics(scope, context));
}

async fn run_clusters(scope: Scope, context: Arc<Context>) {
    let client = &context.client;
    let forgotten = Arc::clone(&context);
    let (store, mut queue) = primary::<Cluster>(&scope, client, move |_, change| match change {
        Change::Different(place) => vec![place],
        Change::Gone(Place { namespace, name }) => {
            forgotten.backoff.reset(cluster::KIND, &namespace, &name);
            forgotten.kafka.forget(&ClusterKey { namespace, name });
            Vec::new()
        }
    });
    queue.push(related::<StatefulSet>(&scope, client));
    queue.push(related::<Service>(&scope, client));
    queue.push(related::<ConfigMap>(&scope, client));
    queue.push(related::<PersistentVolumeClaim>(&scope, client));
    queue.push(related::<Pod>(&scope, client));
    let config = Config::default().concurrency(CLUSTERS_AT_ONCE).debounce(DEBOUNCE);
    applier(
        |object: Arc<Guarded<Cluster>>, context: Arc<Context>| {
            Box::pin(async move {
                match &object.0 {
                    Ok(cluster) => {
                        measured(
                            cluster::KIND,
                            &context,
                            Box::pin(cluster::reconcile(Arc::new(cluster.clone()), Arc::clone(&context))),
                        )
                        .await
                    }
                    Err(invalid) => {
                        unreadable::report::<Cluster>(&invalid.metadata, &invalid.error, &context).await;
                        Ok(Action::await_change())
                    }
                }
            })
        },
        after_error,
        Arc::clone(&context),
        store,
        queue,
        config,
    )
    .for_each(|result| async move {
        if let Err(error) = result {
            log_error(cluster::KIND, &error);
        }
    })
    .await;
}

async fn run_topics(scope: Scope, context: Arc<Context>) {
    let client = &context.client;
    let forgotten = Arc::clone(&context);
    let (store, mut queue) = primary::<Topic>(&scope, client, move |topics, change| match change {
        Change::Different(place) => vec![place],
        // Whoever had to step back for it may be the oldest now.
        Change::Gone(place) => {
            forgotten.backoff.reset(topic::KIND, &place.namespace, &place.name);
            places_where(topics, &place.namespace, topic::is_taken)
        }
    });
    // A Cluster that became available, or went, matters to each of its Topics; nothing else of it does.
    let topics = store.clone();
    let mut seen = Seen::default();
    let clusters: Api<Guarded<Cluster>> = guarded(&scope, client);
    let changes = watcher(clusters, watcher::Config::default()).default_backoff();
    queue.push(
        changes
            .flat_map(move |event| {
                let requests: Vec<_> = match event {
                    Ok(event) => seen
                        .changes(&event, counts_for_topics)
                        .into_iter()
                        .flat_map(|change| {
                            let (Change::Different(place) | Change::Gone(place)) = change;
                            places_where(&topics, &place.namespace, |topic| topic.spec.cluster_ref.name == place.name)
                        })
                        .map(|place| Ok(request(&place)))
                        .collect(),
                    Err(error) => vec![Err(error)],
                };
                stream::iter(requests)
            })
            .boxed(),
    );
    let siblings = store.clone();
    let config = Config::default().concurrency(TOPICS_AT_ONCE).debounce(DEBOUNCE);
    applier(
        move |object: Arc<Guarded<Topic>>, context: Arc<Context>| {
            let siblings = siblings.clone();
            Box::pin(async move {
                match &object.0 {
                    Ok(topic) => {
                        let siblings = same_topic(topic, &siblings);
                        let pass = topic::reconcile(Arc::new(topic.clone()), siblings, Arc::clone(&context));
                        measured(topic::KIND, &context, pass).await
                    }
                    Err(invalid) => {
                        unreadable::report::<Topic>(&invalid.metadata, &invalid.error, &context).await;
                        Ok(Action::await_change())
                    }
                }
            })
        },
        after_error,
        Arc::clone(&context),
        store,
        queue,
        config,
    )
    .for_each(|result| async move {
        if let Err(error) = result {
            log_error(topic::KIND, &error);
        }
    })
    .await;
}

/// The other Topics that mean the same topic.
fn same_topic(topic: &Topic, store: &Store<Guarded<Topic>>) -> Vec<Arc<Topic>> {
    store
        .state()
        .into_iter()
        .filter_map(|other| match &other.0 {
            Ok(other)
                if other.namespace() == topic.namespace()
                    && other.uid() != topic.uid()
                    && other.topic_name() == topic.topic_name() =>
            {
                Some(Arc::new(other.clone()))
            }
            _ => None,
        })
        .collect()
}

/// Where the Topics of a namespace are that are meant.
fn places_where(topics: &Store<Guarded<Topic>>, namespace: &str, meant: impl Fn(&Topic) -> bool) -> Vec<Place> {
    topics
        .state()
        .iter()
        .filter_map(|object| object.0.as_ref().ok())
        .filter(|topic| topic.metadata.namespace.as_deref() == Some(namespace) && meant(topic))
        .map(|topic| Place { namespace: namespace.to_owned(), name: topic.name_any() })
        .collect()
}

/// All that Topics look at in their Cluster.
fn counts_for_topics(cluster: &Guarded<Cluster>) -> u64 {
    let reached = cluster.0.as_ref().is_ok_and(is_reached);
    let metadata = cluster.meta();
    triggers::hash(&(&metadata.uid, metadata.deletion_timestamp.is_some(), reached))
}

fn request<K>(place: &Place) -> ReconcileRequest<Guarded<K>>
where
    K: Resource<DynamicType = ()> + 'static,
{
    ReconcileRequest::from(ObjectRef::<Guarded<K>>::new(&place.name).within(&place.namespace))
}

fn guarded<K>(scope: &Scope, client: &Client) -> Api<Guarded<K>>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match scope {
        Scope::All => Api::all(client.clone()),
        Scope::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
    }
}

/// The watch of the resources themselves: kept in a store; `leads_to` says which of them a change asks a pass
/// of. Our own status writes are no changes: they must not lead to the next pass.
fn primary<K>(
    scope: &Scope,
    client: &Client,
    leads_to: impl Fn(&Store<Guarded<K>>, Change) -> Vec<Place> + Send + 'static,
) -> (Store<Guarded<K>>, Queue<K>)
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store::<Guarded<K>>();
    let kept = store.clone();
    let mut seen = Seen::default();
    let requests = watcher(guarded::<K>(scope, client), watcher::Config::default())
        .default_backoff()
        .modify(|object| {
            // Twice as much memory as the resource itself, and nobody here reads it.
            object.meta_mut().managed_fields = None;
        })
        // The store first: a pass that is asked for must find the change in it.
        .reflect(writer)
        .flat_map(move |event| {
            let requests: Vec<_> = match event {
                Ok(event) => seen
                    .changes(&event, |object| triggers::counts_for_itself(object.meta()))
                    .into_iter()
                    .flat_map(|change| leads_to(&kept, change))
                    .map(|place| Ok(request(&place)))
                    .collect(),
                Err(error) => vec![Err(error)],
            };
            stream::iter(requests)
        });
    let mut queue: Queue<K> = SelectAll::new();
    queue.push(requests.boxed());
    (store, queue)
}

/// A watch of objects made for Clusters, by their label. Only metadata is carried.
fn related<Child>(
    scope: &Scope,
    client: &Client,
) -> BoxStream<'static, Result<ReconcileRequest<Guarded<Cluster>>, watcher::Error>>
where
    Child: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let labelled = watcher::Config::default().labels(names::CLUSTER_LABEL);
    let changes = watcher(scope.api::<PartialObjectMeta<Child>>(client), labelled).default_backoff().touched_objects();
    trigger_with(changes, |child: PartialObjectMeta<Child>| {
        // The label only says whom to ask to look; whose the object is, its controller says.
        let cluster = child.labels().get(names::CLUSTER_LABEL)?;
        let namespace = child.namespace()?;
        Some(ReconcileRequest::from(ObjectRef::<Guarded<Cluster>>::new(cluster).within(&namespace)))
    })
    .boxed()
}

/// Runs a pass within its deadline and counts it.
async fn measured(
    kind: &'static str,
    context: &Context,
    pass: impl Future<Output = Result<Action, ReconcileError>>,
) -> Result<Action, ReconcileError> {
    let begun = Instant::now();
    let result = tokio::time::timeout(PASS_DEADLINE, pass).await.unwrap_or_else(|_| {
        warn!(kind, seconds = PASS_DEADLINE.as_secs(), "a pass did not end in time and is begun anew");
        Ok(Action::requeue(ERROR_WAIT))
    });
    let now = Timestamp::now().as_millisecond() as f64 / 1000.0;
    context.metrics.reconciled(kind, result.is_ok(), begun.elapsed(), now);
    result
}

/// A failed call is tried again after a fixed time: the watches bring real changes earlier.
#[allow(clippy::needless_pass_by_value)]
fn after_error<K: Resource>(_: Arc<K>, _: &ReconcileError, _: Arc<Context>) -> Action {
    Action::requeue(ERROR_WAIT)
}

fn log_error<E: std::error::Error>(kind: &str, error: &E) {
    use std::fmt::Write;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    // A resource that was deleted meanwhile is no trouble.
    if text.contains("not found in local store") {
        debug!(kind, "{text}");
    } else {
        warn!(kind, "{text}");
    }
}
