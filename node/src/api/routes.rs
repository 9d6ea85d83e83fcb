//! The paths of the API; the work is in [`Service`].

mod images;

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, head, post, put};
use axum::{Json, Router};
use futures::{Stream, StreamExt, TryStreamExt, future, stream};
use http::{HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shoal_protocol::model::spec::InvalidSpec;
use shoal_protocol::model::view::{ChangeView, EventView, WorkloadView};
use shoal_protocol::model::{Digest, NamedReplica, ProgramKind, ReplicaName, WorkloadName};
use shoal_runtimes::logs::Tail;
use tokio_util::io::StreamReader;

use super::follow::follow;
use super::form::{AcceptedBody, DraftBody, PrepareBody, PreparedBody, SubmitBody, full_name};
use super::logs::{Wanted, json_line, lines};
use super::seen::Seen;
use super::{ApiError, Asker, Service};
use crate::telemetry;

/// Bytes of a request's JSON: a spec with a full environment takes some 60 KiB.
const JSON_BYTES: usize = 1024 * 1024;
/// Log lines when the request gives no number.
const LINES: usize = 100;

type Answer = Result<Response, ApiError>;

/// All paths, for the unix socket and for operators.
pub fn all(service: Service) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/nodes", get(nodes))
        .route("/v1/workloads", get(workloads))
        .route("/v1/workloads/{namespace}/{name}", get(workload))
        .route("/v1/specs/{namespace}/{name}", get(published))
        .route("/v1/explain/{namespace}/{name}/{index}", get(explain))
        .route("/v1/logs/{namespace}/{name}/{index}", get(logs))
        .route("/v1/usage/{namespace}/{name}/{index}", get(usage))
        .route("/v1/session/{namespace}/{name}/{index}", get(session))
        .route("/v1/running/{uid}/{node}", get(running))
        .route("/v1/volumes/{namespace}/{name}/{index}/{volume}", get(volume))
        .route("/v1/events", get(events))
        .route("/v1/history", get(history))
        .route("/v1/meeting", get(meeting))
        .route("/v1/operators", get(operators))
        .route("/v1/revoked", get(revoked))
        .route("/v1/admissions/{node}", get(admissions))
        .route("/v1/quotas", get(quotas))
        .route("/v1/values", get(values))
        .route("/v1/readers/{namespace}/{name}", get(readers))
        .route("/v1/configs/{namespace}/{name}", get(config))
        .route("/v1/draft", post(draft))
        .route("/v1/artifacts/{digest}", head(artifact).merge(put(upload)))
        .route("/v1/images", get(images::list).post(images::pushed))
        .route("/v1/images/resolve", post(images::resolve))
        .route("/v1/images/remove", post(images::remove))
        .route("/v1/images/prune", post(images::prune))
        .route("/v1/prepare", post(prepare))
        .route("/v1/submit", post(submit))
        .route("/v1/down", post(down))
        .route("/metrics", get(metrics))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_path)
        .with_state(service)
}

/// The paths for other nodes; each answers from this node's knowledge alone.
pub fn for_peers(service: Service) -> Router {
    Router::new()
        .route("/v1/explain/{namespace}/{name}/{index}", get(explain_here))
        .route("/v1/logs/{namespace}/{name}/{index}", get(logs_here))
        .route("/v1/usage/{namespace}/{name}/{index}", get(usage_here))
        .route("/v1/session/{namespace}/{name}/{index}", get(session_here))
        .route("/v1/connect/{namespace}/{name}/{index}/{port}", get(connect_here))
        .route("/v1/volumes/{namespace}/{name}/{index}/{volume}", get(volume_here))
        .route("/v1/running/{uid}", get(running_here))
        .route("/v1/secret-key/{namespace}/{name}/{version}", get(secret_key))
        .route("/v1/images", get(images::list_here))
        .route("/v1/images/remove", post(images::remove_here))
        .route("/v1/images/prune", post(images::prune_here))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_path)
        .with_state(service)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WatchQuery {
    #[serde(default)]
    watch: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    since: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    name: Option<String>,
    /// With the specs that changes left; a full environment takes some 60 KiB.
    #[serde(default)]
    specs: bool,
}

/// The kinds of what has a namespace.
const NAMESPACED: [&str; 4] = ["workload", "secret", "config", "quota"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogsQuery {
    lines: Option<usize>,
    #[serde(default)]
    follow: bool,
    since: Option<String>,
    container: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeQuery {
    node: Option<String>,
}

impl LogsQuery {
    fn wanted(self) -> Result<Wanted, ApiError> {
        let since = self
            .since
            .map(|text| text.parse())
            .transpose()
            .map_err(|why: String| ApiError::invalid(format!("since: {why}")))?;
        let tail = Tail { lines: self.lines.unwrap_or(LINES), follow: self.follow };
        Ok(Wanted { tail, since, container: self.container })
    }
}

async fn status(State(service): State<Service>) -> Answer {
    json(&service.status().await?)
}

async fn nodes(State(service): State<Service>) -> Answer {
    json(&service.nodes().await?)
}

async fn workloads(State(service): State<Service>, request: Request) -> Answer {
    let WatchQuery { watch } = query(&request)?;
    let seen = Seen::now();
    let of = |it: &WorkloadView| it.namespace.clone();
    if !watch {
        return json(&seen.keep(service.workloads().await?, of));
    }
    let core = service.core.clone();
    let look = move || {
        let (core, seen) = (core.clone(), seen.clone());
        async move { Some(seen.keep(core.workloads().await.ok()?, of)) }
    };
    Ok(lines(streamed(follow(service.core, look))))
}

async fn workload(
    State(service): State<Service>,
    Path((namespace, name)): Path<(String, String)>,
    request: Request,
) -> Answer {
    let WatchQuery { watch } = query(&request)?;
    let name = workload_name(&namespace, &name)?;
    let view = service.workload(&name).await?;
    if !watch {
        return json(&view);
    }
    let core = service.core.clone();
    // The stream ends when the workload is gone.
    let look = move || {
        let (core, name) = (core.clone(), name.clone());
        async move { core.workload(name).await.ok().flatten() }
    };
    Ok(lines(streamed(follow(service.core, look))))
}

async fn published(
    State(service): State<Service>,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer {
    json(&service.published(&workload_name(&namespace, &name)?).await?)
}

async fn explain(
    State(service): State<Service>,
    Path(path): Path<(String, String, String)>,
) -> Answer {
    json(&service.explain(&replica_name(&service, &path).await?).await?)
}

async fn explain_here(
    State(service): State<Service>,
    Path(path): Path<(String, String, String)>,
) -> Answer {
    json(&service.explain_here(&replica_name(&service, &path).await?).await?)
}

async fn usage(
    State(service): State<Service>,
    Path(path): Path<(String, String, String)>,
) -> Answer {
    json(&service.usage(&replica_name(&service, &path).await?).await?)
}

async fn usage_here(
    State(service): State<Service>,
    Path(path): Path<(String, String, String)>,
) -> Answer {
    json(&service.usage_here(&replica_name(&service, &path).await?).await?)
}

async fn running(
    State(service): State<Service>,
    Path((uid, node)): Path<(String, String)>,
) -> Answer {
    let node = node.parse().map_err(|error| ApiError::invalid(format!("{error}")))?;
    json(&service.running(&digest(&uid)?, node).await?)
}

async fn running_here(State(service): State<Service>, Path(uid): Path<String>) -> Answer {
    json(&service.running_here(&digest(&uid)?))
}

async fn logs(
    State(service): State<Service>,
    Path(path): Path<(String, String, String)>,
    request: Request,
) -> Answer {
    let wanted = query::<LogsQuery>(&request)?.wanted()?;
    service.logs(&replica_name(&service, &path).await?, wanted).await
}

async fn logs_here(
    State(service): State<Service>,
    Path(path): Path<(String, String, String)>,
    request: Request,
) -> Answer {
    let wanted = query::<LogsQuery>(&request)?.wanted()?;
    service.logs_here(&replica_name(&service, &path).await?, wanted).await
}

async fn session(
    State(service): State<Service>,
    Path(path): Path<(String, String, String)>,
    request: Request,
) -> Answer {
    service.session(replica_name(&service, &path).await?, request).await
}

async fn session_here(
    State(service): State<Service>,
    Path(path): Path<(String, String, String)>,
    request: Request,
) -> Answer {
    service.session_here(replica_name(&service, &path).await?, request).await
}

async fn connect_here(
    State(service): State<Service>,
    Path((namespace, name, index, port)): Path<(String, String, String, u16)>,
    request: Request,
) -> Answer {
    service
        .connect_here(replica_name(&service, &(namespace, name, index)).await?, port, request)
        .await
}

async fn volume(
    State(service): State<Service>,
    Path((namespace, name, index, volume)): Path<(String, String, String, String)>,
    request: Request,
) -> Answer {
    let NodeQuery { node } = query(&request)?;
    let replica = volume_name(&service, &(namespace, name, index)).await?;
    service.volume(replica, volume, node.as_deref(), request).await
}

async fn volume_here(
    State(service): State<Service>,
    Path((namespace, name, index, volume)): Path<(String, String, String, String)>,
    request: Request,
) -> Answer {
    service
        .volume_here(volume_name(&service, &(namespace, name, index)).await?, volume, request)
        .await
}

async fn events(State(service): State<Service>, request: Request) -> Answer {
    let EventsQuery { follow, since } = query(&request)?;
    let seen = Seen::now();
    if follow {
        let of = move |it: &EventView| future::ready(seen.has_event(it));
        return Ok(lines(streamed(service.events(since).filter(of))));
    }
    let (mut history, _) = service.core.events(since);
    history.retain(|it| seen.has_event(it));
    Ok(lines(streamed(stream::iter(history))))
}

async fn history(State(service): State<Service>, request: Request) -> Answer {
    let HistoryQuery { name, specs } = query(&request)?;
    let mut all = service.history().await;
    if let Some(name) = name {
        let name: WorkloadName =
            name.parse().map_err(|error| ApiError::invalid(format!("name: {error}")))?;
        let full = full_name(&name);
        all.retain(|it| it.name == full && NAMESPACED.contains(&it.kind.as_str()));
    }
    if !specs {
        all.iter_mut().for_each(|it| it.spec = None);
    }
    let seen = Seen::now();
    let namespace = |it: &ChangeView| it.name.split('/').next().unwrap_or_default().to_owned();
    all.retain(|it| !NAMESPACED.contains(&it.kind.as_str()) || seen.has(&namespace(it)));
    Ok(lines(streamed(stream::iter(all))))
}

async fn meeting(State(service): State<Service>) -> Answer {
    json(&service.meeting())
}

async fn operators(State(service): State<Service>) -> Answer {
    json(&service.operators().await?)
}

async fn quotas(State(service): State<Service>) -> Answer {
    json(&Seen::now().keep(service.quotas().await?, |it| it.namespace.clone()))
}

async fn revoked(State(service): State<Service>) -> Answer {
    json(&service.revoked().await?)
}

async fn admissions(State(service): State<Service>, Path(node): Path<String>) -> Answer {
    let node = node.parse().map_err(|error| ApiError::invalid(format!("{error}")))?;
    json(&service.core.let_in_by(node).await?)
}

async fn values(State(service): State<Service>) -> Answer {
    json(&Seen::now().keep(service.values().await?, |it| it.namespace.clone()))
}

async fn readers(
    State(service): State<Service>,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer {
    json(&service.readers(workload_name(&namespace, &name)?).await?)
}

async fn config(
    State(service): State<Service>,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer {
    let bytes = service.config(workload_name(&namespace, &name)?).await?;
    let kind = HeaderValue::from_static("application/octet-stream");
    Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response())
}

async fn secret_key(
    State(service): State<Service>,
    Path((namespace, name, version)): Path<(String, String, String)>,
    request: Request,
) -> Answer {
    let asker = request.extensions().get::<Asker>().copied();
    let name = workload_name(&namespace, &name)?;
    json(&service.secret_key(name, digest(&version)?, asker).await?)
}

async fn draft(State(service): State<Service>, request: Request) -> Answer {
    let body: DraftBody = from_json(&text_of(request).await?)?;
    json(&service.draft(body).await?)
}

async fn artifact(State(service): State<Service>, Path(digest): Path<String>) -> Answer {
    let digest = self::digest(&digest)?;
    match service.holds(&digest) {
        Some(_) => Ok(StatusCode::OK.into_response()),
        None => {
            let message = format!("artifact {} is not on this node", digest.short());
            Err(ApiError::new(StatusCode::NOT_FOUND, "no-such-artifact", message))
        }
    }
}

/// The query of an upload.
#[derive(serde::Deserialize)]
struct UploadQuery {
    /// The runtime that the bytes are for; `wasm` if it is left out.
    runtime: Option<String>,
}

async fn upload(
    State(service): State<Service>,
    Path(digest): Path<String>,
    Query(query): Query<UploadQuery>,
    body: Body,
) -> Answer {
    let kind = match query.runtime.as_deref() {
        None | Some("wasm") => ProgramKind::Wasm,
        Some("container") => ProgramKind::Container,
        Some(other) => {
            let why = format!("runtime: `{other}` is not known: `wasm` or `container`");
            return Err(ApiError::invalid(why));
        }
    };
    let digest = self::digest(&digest)?;
    let reader = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    service.upload(kind, digest, Box::pin(reader)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn prepare(State(service): State<Service>, request: Request) -> Answer {
    let text = text_of(request).await?;
    let body: PrepareBody = from_json(&text).map_err(|error| of_later(&text).unwrap_or(error))?;
    let proposal = body.try_into().map_err(|error| ApiError::invalid(format!("{error}")))?;
    json(&PreparedBody::from(service.prepare(proposal).await?))
}

/// The refusal of a spec with a field that a later version will have. Asked only about a text that
/// was refused, so that no other text is read twice.
pub(super) fn of_later(text: &[u8]) -> Option<ApiError> {
    let body: serde_json::Value = serde_json::from_slice(text).ok()?;
    let not_yet = body.get("spec")?.as_object()?.keys().find_map(|it| InvalidSpec::not_yet(it))?;
    Some(ApiError::invalid(not_yet.to_string()).hint("Leave it away; nothing was changed."))
}

async fn submit(State(service): State<Service>, request: Request) -> Answer {
    let body: SubmitBody = from_json(&text_of(request).await?)?;
    let change = body.try_into().map_err(|error| ApiError::invalid(format!("{error}")))?;
    json(&AcceptedBody::from(service.submit(change).await?))
}

async fn down(State(service): State<Service>) -> Answer {
    Ok((StatusCode::ACCEPTED, Json(service.down())).into_response())
}

async fn metrics(State(service): State<Service>) -> Answer {
    let text = telemetry::metrics(&service.status().await?.view);
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"))], text)
        .into_response())
}

async fn no_such_path(request: Request) -> ApiError {
    let message =
        format!("there is no `{} {}` in this API", request.method(), request.uri().path());
    ApiError::new(StatusCode::NOT_FOUND, "no-such-path", message)
}

fn json(value: &impl Serialize) -> Answer {
    let mut bytes = serde_json::to_vec(value).map_err(|error| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            format!("the answer cannot be written: {error}"),
        )
    })?;
    bytes.push(b'\n');
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes)
        .into_response())
}

fn streamed<T: Serialize>(values: impl Stream<Item = T> + Send + 'static) -> Body {
    Body::from_stream(values.map(|value| Ok::<Bytes, Infallible>(json_line(&value))))
}

fn query<T: DeserializeOwned>(request: &Request) -> Result<T, ApiError> {
    Query::try_from_uri(request.uri())
        .map(|Query(query)| query)
        .map_err(|error| ApiError::invalid(error.body_text()))
}

async fn text_of(request: Request) -> Result<Bytes, ApiError> {
    axum::body::to_bytes(request.into_body(), JSON_BYTES).await.map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, "cut-short", format!("the request's body: {error}"))
    })
}

pub(super) fn from_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(text)
        .map_err(|error| ApiError::invalid(format!("the request's body: {error}")))
}

fn digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error| ApiError::invalid(format!("{error}")))
}

fn workload_name(namespace: &str, name: &str) -> Result<WorkloadName, ApiError> {
    format!("{namespace}/{name}").parse().map_err(|error| ApiError::invalid(format!("{error}")))
}

fn named_replica(
    (namespace, name, place): &(String, String, String),
) -> Result<NamedReplica, ApiError> {
    format!("{namespace}/{name}/{place}").parse().map_err(ApiError::invalid)
}

async fn replica_name(
    service: &Service,
    path: &(String, String, String),
) -> Result<ReplicaName, ApiError> {
    service.replica(named_replica(path)?).await
}

async fn volume_name(
    service: &Service,
    path: &(String, String, String),
) -> Result<ReplicaName, ApiError> {
    service.volume_of(named_replica(path)?).await
}

/// Reads a request's target as the routes do, for `fuzzing`.
pub(super) fn read_target(text: &str) {
    let Ok(request) = http::Request::builder().uri(text).body(axum::body::Body::empty()) else {
        return;
    };
    _ = query::<WatchQuery>(&request).map(|it| it.watch);
    _ = query::<LogsQuery>(&request).and_then(LogsQuery::wanted);
    _ = query::<EventsQuery>(&request).map(|it| it.since);
    _ = query::<NodeQuery>(&request).map(|it| it.node);
    let mut parts = request.uri().path().split('/').map(str::to_owned);
    let parts = [(); 3].map(|()| parts.next().unwrap_or_default());
    let [namespace, name, index] = parts;
    _ = (digest(&name), workload_name(&namespace, &name));
    _ = named_replica(&(namespace, name, index));
}
