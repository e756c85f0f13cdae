// SPDX-License-Identifier: Apache-2.0
//! The HTTP port: probes, metrics, and whether a broker may stop; nothing else. It must not know Kafka's protocol.
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::health::{Health, Phase};
use crate::stop_advice::{StopAdvice, StopAnswer};

/// Connections served at once: the kubelet's three probes and two scrapers, with room for people.
const CONNECTIONS: usize = 32;
/// A request's head must arrive within this time.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// A connection ends after this time whatever it does.
const CONNECTION_TIME: Duration = Duration::from_mins(5);

/// Gives the text of `/metrics`.
pub trait MetricsSource: Send + Sync + 'static {
    /// Prometheus' (OpenMetrics) text form.
    fn render(&self) -> String;
}

/// Says whether a broker may stop.
pub trait StopAdviser: Send + Sync + 'static {
    /// Asks about the broker of that id, or about this one.
    fn may_stop(&self, broker: Option<i32>) -> Pin<Box<dyn Future<Output = StopAdvice> + Send + '_>>;
}

/// Serves the HTTP port until `stopped`, which comes after the Kafka ports have drained, so that probes see
/// the stop.
pub async fn serve(
    socket: TcpListener,
    health: Arc<Health>,
    metrics: Arc<dyn MetricsSource>,
    adviser: Arc<dyn StopAdviser>,
    stopped: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stopped.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            continue;
        };
        let health = Arc::clone(&health);
        let metrics = Arc::clone(&metrics);
        let adviser = Arc::clone(&adviser);
        let stopped = stopped.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let (method, uri) = (request.method().clone(), request.uri().clone());
                let (health, metrics, adviser) = (&health, &metrics, &adviser);
                async move { Ok::<_, Infallible>(respond(&method, &uri, health, &**metrics, &**adviser).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = tokio::time::timeout(CONNECTION_TIME, connection) => {}
                () = stopped.cancelled() => {}
            }
            drop(slot);
        });
    }
}

async fn respond(
    method: &Method,
    uri: &Uri,
    health: &Health,
    metrics: &dyn MetricsSource,
    adviser: &dyn StopAdviser,
) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
    }
    let (status, body) = match uri.path() {
        "/livez" if health.is_stuck() => (StatusCode::SERVICE_UNAVAILABLE, "start is stuck\n".into()),
        "/livez" => (StatusCode::OK, "ok\n".into()),
        "/readyz" => match health.phase() {
            Phase::Serving => (StatusCode::OK, "ok\n".into()),
            Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n".into()),
            Phase::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".into()),
        },
        // Succeeds while progress moves: a recovery may take longer than any threshold times period.
        "/startupz" => {
            let stuck = health.is_stuck();
            let status = if stuck { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            let mut response = text(status, health.progress_json());
            response.headers_mut().insert(CONTENT_TYPE, JSON);
            return response;
        }
        "/metrics" => {
            let mut response = text(StatusCode::OK, metrics.render());
            response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
            return response;
        }
        "/may-stop" => return may_stop(uri.query(), adviser).await,
        _ => (StatusCode::NOT_FOUND, "/livez /readyz /startupz /metrics /may-stop\n".into()),
    };
    text(status, body)
}

/// 200 is yes and 409 no; with any other status nobody knows, and it is safer not to stop.
async fn may_stop(query: Option<&str>, adviser: &dyn StopAdviser) -> Response<Full<Bytes>> {
    let broker = match query.map(|query| query.strip_prefix("broker=").and_then(|id| id.parse().ok())) {
        None => None,
        Some(Some(broker)) => Some(broker),
        Some(None) => return text(StatusCode::BAD_REQUEST, "the only parameter is broker, a number\n".into()),
    };
    let advice = adviser.may_stop(broker).await;
    let status = match advice.answer {
        StopAnswer::Yes => StatusCode::OK,
        StopAnswer::No => StatusCode::CONFLICT,
        StopAnswer::NoSuchBroker => StatusCode::NOT_FOUND,
        StopAnswer::Unknown => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = text(status, advice.json);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

const JSON: hyper::header::HeaderValue = hyper::header::HeaderValue::from_static("application/json");
const OPEN_METRICS: hyper::header::HeaderValue =
    hyper::header::HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
