//! Images over all nodes: what there is, who holds and who uses it, and their removal.
//!
//! **Removal never touches what a workload names**, on whatever node, nor a fresh upload. Other
//! members may ask for the removal of the rest: it can be pushed or fetched again.

mod ask;
pub mod form;
mod resolve;

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use shoal_protocol::model::Digest;
use shoal_protocol::model::spec::PlatformImage;
use shoal_protocol::node::ImageUse;
use shoal_runtimes::images::full_name;

use super::service::of_store;
use super::{ApiError, Service};
use crate::images::{ImageRecord, Images, parts};
use form::{AllFreedBody, FreedBody, HereBody, ImageView, ImagesBody, PruneBody, PushedBody};

impl Service {
    /// The same API with the images of this node.
    pub fn with_images(self, images: Images) -> Self {
        Service { images, ..self }
    }

    /// The images and artifacts of this node.
    pub fn images_here(&self) -> HereBody {
        let artifacts = self.artifacts.list().into_iter().map(|(digest, _)| digest).collect();
        HereBody { images: self.images.records.all(), artifacts }
    }

    /// All images that have a name on some node, or that a workload uses.
    pub async fn images(&self) -> Result<ImagesBody, ApiError> {
        let (heres, unasked) = self.images_everywhere().await?;
        let uses = self.core.images().await?;
        Ok(ImagesBody { images: views(&heres, &uses), unasked })
    }

    /// Gives an image a name; its parts were uploaded.
    pub async fn pushed(&self, body: PushedBody) -> Result<(), ApiError> {
        let PushedBody { name, platforms } = body;
        if full_name(&name).is_none() {
            return Err(ApiError::invalid(format!("`{name}` is no name of an image")));
        }
        let lacks = |platform: &PlatformImage| {
            let all = parts(std::slice::from_ref(platform));
            all.into_iter().find(|part| self.artifacts.has(&part.digest) != Some(part.size))
        };
        if platforms.is_empty() {
            return Err(ApiError::invalid(format!("`{name}` has no platform")));
        }
        if let Some(part) = platforms.iter().find_map(lacks) {
            let digest = part.digest.short();
            return Err(ApiError::invalid(format!("part {digest} of `{name}` is not here")));
        }
        self.remember(ImageRecord::new(&name, platforms, true)).await
    }

    pub(super) async fn remember(&self, record: ImageRecord) -> Result<(), ApiError> {
        self.images.records.add(record).await.map_err(|error| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "disk", error.to_string())
        })
    }

    /// Removes a name on all nodes, and the parts that nothing else needs.
    pub async fn remove_image(&self, name: &str) -> Result<AllFreedBody, ApiError> {
        let (heres, _) = self.images_everywhere().await?;
        let records = heres.iter().flat_map(|(_, here)| &here.images);
        let called: Vec<&ImageRecord> = records.filter(|record| record.is_called(name)).collect();
        if called.is_empty() {
            let message = format!("no node that answers knows the image `{name}`");
            let error = ApiError::new(StatusCode::NOT_FOUND, "no-such-image", message);
            return Err(error.hint("`shoal image ls` lists what there is."));
        }
        let uses = self.core.images().await?;
        let users: BTreeSet<String> =
            called.iter().flat_map(|record| users_by_name(&uses, record)).collect();
        if !users.is_empty() {
            let users: Vec<String> = users.into_iter().collect();
            let message =
                format!("the image `{name}` is used by {}; nothing was removed", users.join(", "));
            let error = ApiError::new(StatusCode::CONFLICT, "in-use", message);
            return Err(error.hint("Remove these workloads first, or let them run another image."));
        }
        self.remove_everywhere(name).await
    }

    /// Removes a name on this node.
    pub async fn remove_image_here(&self, name: &str) -> Result<FreedBody, ApiError> {
        let gone: Vec<ImageRecord> =
            self.images.records.all().into_iter().filter(|it| it.is_called(name)).collect();
        let uses = self.core.images().await?;
        if gone.iter().any(|record| !users_by_name(&uses, record).is_empty()) {
            let message = format!("the image `{name}` is used by a workload");
            return Err(ApiError::new(StatusCode::CONFLICT, "in-use", message));
        }
        let candidates: BTreeSet<Digest> =
            gone.iter().flat_map(|record| record.parts().map(|part| part.digest)).collect();
        let called = name.to_owned();
        self.forget(move |record| !record.is_called(&called)).await?;
        let mut freed = self.free(false, |digest| candidates.contains(digest)).await?;
        freed.images = gone.into_iter().map(|record| record.name).collect();
        Ok(freed)
    }

    /// Removes what nothing needs on this node: images without a user, bytes without a name, and
    /// images of the engine that were loaded from parts.
    pub async fn prune_images_here(&self, asked: &PruneBody) -> Result<FreedBody, ApiError> {
        let PruneBody { dry_run, all } = *asked;
        let uses = self.core.images().await?;
        let in_use: BTreeSet<Digest> = uses.iter().flat_map(configs_of).collect();
        let stays = move |record: &ImageRecord| {
            (record.pushed && !all) || !record.configs().is_disjoint(&in_use)
        };
        let (kept, gone): (Vec<_>, Vec<_>) =
            self.images.records.all().into_iter().partition(&stays);
        if !dry_run && !gone.is_empty() {
            self.forget(stays).await?;
        }
        let named: BTreeSet<Digest> =
            kept.iter().flat_map(|record| record.parts().map(|part| part.digest)).collect();
        let mut freed = self.free(dry_run, |digest| !named.contains(digest)).await?;
        freed.images = gone.into_iter().map(|record| record.name).collect();
        match self.images.prune_engine(dry_run).await {
            Ok(removed) => {
                freed.engine_images = removed.len();
                freed.engine_bytes = removed.iter().map(|image| image.size).sum();
            }
            // The store was pruned all the same, and the adapter removes them later by itself.
            Err(error) => tracing::warn!("the engine's images were not pruned: {error}"),
        }
        Ok(freed)
    }

    async fn forget(
        &self,
        wanted: impl Fn(&ImageRecord) -> bool + Send + 'static,
    ) -> Result<(), ApiError> {
        self.images.records.retain(wanted).await.map_err(|error| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "disk", error.to_string())
        })
    }

    /// Removes the artifacts that `may_go` names, except for those that a workload, a recent
    /// upload, or a remaining record needs.
    async fn free(
        &self,
        dry_run: bool,
        may_go: impl Fn(&Digest) -> bool,
    ) -> Result<FreedBody, ApiError> {
        let mut needed = self.core.named_artifacts().await?;
        needed.extend(self.core.pinned().await?);
        if !dry_run {
            let records = self.images.records.all();
            needed.extend(records.iter().flat_map(|it| it.parts().map(|part| part.digest)));
        }
        let mut freed = FreedBody { node: self.name_here().await?, ..FreedBody::default() };
        for (digest, size) in self.artifacts.list() {
            if !may_go(&digest) || needed.contains(&digest) {
                continue;
            }
            if !dry_run {
                self.artifacts.remove(&digest).await.map_err(of_store)?;
            }
            freed.parts += 1;
            freed.bytes += size;
        }
        Ok(freed)
    }

    async fn name_here(&self) -> Result<String, ApiError> {
        let names = self.core.names(vec![self.about.node]).await?;
        Ok(names.into_iter().next().unwrap_or_else(|| self.about.node.short()))
    }
}

fn configs_of(it: &ImageUse) -> BTreeSet<Digest> {
    it.image.platforms.iter().map(|platform| platform.config.digest).collect()
}

/// The workloads that run an image with one of these configurations.
fn users(uses: &[ImageUse], configs: &BTreeSet<Digest>) -> BTreeSet<String> {
    let fits = uses.iter().filter(|it| !configs_of(it).is_disjoint(configs));
    fits.map(|it| it.workload.to_string()).collect()
}

/// The workloads that run an image under this name. Under another name of the same bytes they lose
/// nothing when this one goes.
fn users_by_name(uses: &[ImageUse], record: &ImageRecord) -> BTreeSet<String> {
    let named: Vec<ImageUse> =
        uses.iter().filter(|it| record.is_called(&it.image.reference)).cloned().collect();
    users(&named, &record.configs())
}

/// The images of all nodes in one list, by name.
fn views(heres: &[(String, HereBody)], uses: &[ImageUse]) -> Vec<ImageView> {
    let named = heres.iter().flat_map(|(_, here)| here.images.iter().cloned());
    let used = uses.iter().filter(|it| !it.image.platforms.is_empty());
    let used = used.map(|it| ImageRecord {
        at_ms: 0,
        ..ImageRecord::new(&it.image.reference, it.image.platforms.clone(), false)
    });
    let mut records: BTreeMap<(String, BTreeSet<Digest>), ImageRecord> = BTreeMap::new();
    for record in named.chain(used) {
        let name = full_name(&record.name).unwrap_or_else(|| record.name.clone());
        let known = records.entry((name, record.configs())).or_insert_with(|| record.clone());
        known.pushed |= record.pushed;
        known.at_ms = known.at_ms.max(record.at_ms);
    }
    let mut held: Vec<(&String, BTreeSet<&Digest>)> =
        heres.iter().map(|(node, here)| (node, here.artifacts.iter().collect())).collect();
    held.sort_by_key(|(node, _)| *node);
    let view = |record: ImageRecord| {
        let all: BTreeMap<Digest, u64> =
            record.parts().map(|part| (part.digest, part.size)).collect();
        let has_one = |artifacts: &BTreeSet<&Digest>| {
            let has = |platform: &PlatformImage| {
                let mut all = parts(std::slice::from_ref(platform));
                all.all(|part| artifacts.contains(&part.digest))
            };
            record.platforms.iter().any(has)
        };
        let first = record.platforms.first();
        ImageView {
            id: first.map(|platform| platform.config.digest.to_string()).unwrap_or_default(),
            platforms: record.platforms.iter().map(|it| it.arch.clone()).collect(),
            size: all.values().sum(),
            pushed: record.pushed,
            at_ms: record.at_ms,
            held_by: held.iter().filter(|it| has_one(&it.1)).map(|it| it.0.clone()).collect(),
            used_by: users(uses, &record.configs()).into_iter().collect(),
            name: record.name,
        }
    };
    records.into_values().map(view).collect()
}
