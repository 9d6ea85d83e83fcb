//! Sessions with a volume, on their way to the node that keeps it.

use axum::body::Body;
use axum::extract::Request;
use http::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use shoal_protocol::model::view::NodeView;
use shoal_protocol::model::volume::MAX_VOLUMES;
use shoal_protocol::model::{Label, NodeId, ProgramKind, ReplicaName};
use shoal_runtimes::VolumeKey;

use super::form::full_name;
use super::session::{switching, upgrade};
use super::{ApiError, Service};
use crate::session::{self, AskedVolume, Frames, PROTOCOL};

impl Service {
    /// Opens a session with a volume at the node that keeps it, or at the one that is named. Only
    /// that node judges it: others take no order over their data from a node.
    pub async fn volume(
        &self,
        replica: ReplicaName,
        name: String,
        node: Option<&str>,
        request: Request,
    ) -> Result<Response<Body>, ApiError> {
        let shown = format!("{replica}/{name}");
        let nodes = self.core.nodes().await?;
        let keeper = match node {
            Some(wanted) => named(&nodes, wanted)?,
            None => keeper(self.keepers(&nodes, &replica, &name), &shown)?,
        };
        if keeper.me {
            return self.volume_here(replica, name, request).await;
        }
        let why = keeper.reason.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        let down = || {
            let name = &keeper.name;
            let message = format!("{name}, which keeps the volume `{shown}`, is down{why}");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unreachable", message)
                .hint("Nothing was changed. Start that node, or mend the way to it.")
        };
        let id: NodeId = keeper.id.parse().map_err(|_| down())?;
        if keeper.state == "down" {
            return Err(down());
        }
        let unreachable = |why: &str| {
            let message = format!("{}, which keeps `{shown}`, cannot be asked: {why}", keeper.name);
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unreachable", message)
        };
        let client = upgrade(request, PROTOCOL)?;
        let permit = self.session_permit()?;
        let path = format!("/v1/volumes/{}/{}/{name}", full_name(&replica.workload), replica.place);
        let stream = self.session_there(id, &path, unreachable).await?;
        Ok(self.pass(client, stream, permit))
    }

    /// Opens a session with a volume of this node.
    pub async fn volume_here(
        &self,
        replica: ReplicaName,
        name: String,
        request: Request,
    ) -> Result<Response<Body>, ApiError> {
        let name: Label = name.parse().map_err(|error| {
            ApiError::invalid(format!("`{name}` is no name of a volume: {error}"))
        })?;
        let here = self.name_here().await?;
        let key = key_of(&replica, name.as_str());
        let kind = match self.runtimes.keeps(&key) {
            Some(kind) => kind,
            // It is about to be made.
            None => {
                let service = self.core.service(replica.workload.clone()).await?;
                service.map_or(ProgramKind::Container, |it| it.kind)
            }
        };
        if self.runtimes.volumes_of(kind).is_none() {
            let why = format!(
                "{here} has no container engine that answers, and so no volumes of containers; \
                 nothing was changed"
            );
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no-engine", why));
        }
        let all = self.runtimes.volumes().unwrap_or_default();
        let is_used = self.core.claims(replica.clone()).await?;
        let asked = AskedVolume {
            is_kept: all.contains(&key),
            has_room: all.len() < MAX_VOLUMES,
            is_used,
            replica,
            key,
            kind,
        };
        let client = upgrade(request, PROTOCOL)?;
        let permit = self.session_permit()?;
        let host = self.host.clone();
        self.until_stop(async move {
            let _permit = permit;
            let Ok(client) = client.await else { return };
            session::serve_volume(host, asked, Frames::over(TokioIo::new(client))).await;
        });
        Ok(switching(PROTOCOL))
    }

    /// The nodes that keep a volume: this one as it is now, others by their records.
    fn keepers<'a>(
        &self,
        nodes: &'a [NodeView],
        replica: &ReplicaName,
        name: &str,
    ) -> Vec<&'a NodeView> {
        let shown = format!("{replica}/{name}");
        let here = self.runtimes.keeps(&key_of(replica, name)).is_some();
        let knows_all = self.runtimes.volumes_of(ProgramKind::Container).is_some();
        let keeps = |view: &&NodeView| match view.me {
            true => here || (!knows_all && view.volumes.contains(&shown)),
            false => view.volumes.contains(&shown),
        };
        nodes.iter().filter(keeps).collect()
    }
}

fn key_of(replica: &ReplicaName, name: &str) -> VolumeKey {
    VolumeKey {
        workload: full_name(&replica.workload),
        place: replica.place.of_volumes().to_string(),
        name: name.into(),
    }
}

/// The node that a person names.
fn named<'a>(nodes: &'a [NodeView], wanted: &str) -> Result<&'a NodeView, ApiError> {
    let is_it = |view: &&NodeView| view.name == wanted || view.id == wanted;
    match nodes.iter().filter(is_it).collect::<Vec<_>>()[..] {
        [node] => Ok(node),
        [] => {
            let why = format!("there is no node `{wanted}`");
            Err(ApiError::new(StatusCode::NOT_FOUND, "no-such-node", why)
                .hint("`shoal nodes` lists them."))
        }
        _ => Err(ApiError::invalid(format!("several nodes are called `{wanted}`"))
            .hint("Give the node's id, as `shoal nodes -o json` has it.")),
    }
}

/// The one node that keeps a volume. **Of several, none is guessed**: they hold different data.
fn keeper<'a>(keepers: Vec<&'a NodeView>, shown: &str) -> Result<&'a NodeView, ApiError> {
    match keepers[..] {
        [node] => Ok(node),
        [] => {
            let why = format!("no node keeps a volume `{shown}`");
            Err(ApiError::new(StatusCode::NOT_FOUND, "no-such-volume", why).hint(
                "`shoal volume ls` lists them; `shoal volume restore --node NODE` makes one.",
            ))
        }
        _ => {
            let names: Vec<&str> = keepers.iter().map(|view| view.name.as_str()).collect();
            let names = names.join(" and ");
            let why = format!("{names} each keep a volume `{shown}`; nothing was changed");
            Err(ApiError::new(StatusCode::CONFLICT, "ambiguous", why)
                .hint("Name the one with --node NODE; `shoal volume ls` says which one is used."))
        }
    }
}
