//! The paths below `/v1/images`.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use futures::{StreamExt, stream};
use http::StatusCode;
use tokio::sync::mpsc;

use super::super::images::form::{PruneBody, PushedBody, RemoveBody, ResolveBody, ResolveLine};
use super::super::logs::{json_line, lines};
use super::{Answer, Service, from_json, json, text_of};

/// Lines that wait for the client. Progress beyond it is dropped, the result is not.
const AHEAD: usize = 8;

pub(super) async fn list(State(service): State<Service>) -> Answer {
    json(&service.images().await?)
}

pub(super) async fn list_here(State(service): State<Service>) -> Answer {
    json(&service.images_here())
}

pub(super) async fn pushed(State(service): State<Service>, request: Request) -> Answer {
    let body: PushedBody = from_json(&text_of(request).await?)?;
    service.pushed(body).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn remove(State(service): State<Service>, request: Request) -> Answer {
    let body: RemoveBody = from_json(&text_of(request).await?)?;
    json(&service.remove_image(&body.name).await?)
}

pub(super) async fn remove_here(State(service): State<Service>, request: Request) -> Answer {
    let body: RemoveBody = from_json(&text_of(request).await?)?;
    json(&service.remove_image_here(&body.name).await?)
}

pub(super) async fn prune(State(service): State<Service>, request: Request) -> Answer {
    let body: PruneBody = from_json(&text_of(request).await?)?;
    json(&service.prune_images(&body).await?)
}

pub(super) async fn prune_here(State(service): State<Service>, request: Request) -> Answer {
    let body: PruneBody = from_json(&text_of(request).await?)?;
    json(&service.prune_images_here(&body).await?)
}

/// Ends early when the client goes away.
pub(super) async fn resolve(State(service): State<Service>, request: Request) -> Answer {
    let body: ResolveBody = from_json(&text_of(request).await?)?;
    let (told, mut telling) = mpsc::channel(AHEAD);
    let work = async move {
        let progress = |progress| {
            let _ = told.try_send(ResolveLine::Progress(progress));
        };
        let last = match service.resolve_image(&body, &progress).await {
            Ok(resolved) => ResolveLine::Done(Box::new(resolved)),
            Err(error) => ResolveLine::Failed { status: error.status.as_u16(), body: error.body() },
        };
        let _ = told.send(last).await;
    };
    let telling = stream::poll_fn(move |cx| telling.poll_recv(cx)).map(Some);
    // Polled together: the work goes on only while the client reads.
    let all = stream::select(telling, stream::once(work).map(|()| None::<ResolveLine>));
    let bytes = all.filter_map(|line| async move {
        line.map(|line| Ok::<_, std::convert::Infallible>(json_line(&line)))
    });
    Ok(lines(Body::from_stream(bytes)))
}
