//! From the name of an image to the bytes that all replicas run.
//!
//! | found | the spec names |
//! | --- | --- |
//! | on this node's engine, or pulled by it | its parts, and the registry's digest if it has one |
//! | pushed, on any node | its parts |
//! | nowhere, and no registry may be asked, or there is no engine here | the name alone |
//!
//! The first that has it counts: an image that was built a moment ago is the one that is meant.

use std::collections::BTreeSet;

use http::StatusCode;
use shoal_protocol::model::spec::{Image, PullPolicy};
use shoal_protocol::model::{Digest, ProgramKind};
use shoal_runtimes::container::{Containers, EngineImage, ImageRefused};
use shoal_runtimes::images::{FoundImage, exposed_ports, full_name};

use super::form::{ImageProgress, ResolveBody, ResolvedImage};
use crate::api::{ApiError, Service};
use crate::images::ImageRecord;
use crate::publish::Part;

/// Bytes of an image's configuration that are read: far above what builders write.
const MAX_CONFIG: u64 = 4 << 20;

/// Takes news of how far it is; it may drop some.
pub type Tell<'a> = &'a (dyn Fn(ImageProgress) + Send + Sync);

/// An image of the engine whose parts are in this node's store.
struct Stored {
    record: ImageRecord,
    new_parts: usize,
    known_parts: usize,
}

impl Service {
    /// Finds the bytes that a name means, puts them into this node's store, and keeps them under a
    /// name if asked to.
    pub async fn resolve_image(
        &self,
        asked: &ResolveBody,
        tell: Tell<'_>,
    ) -> Result<ResolvedImage, ApiError> {
        let ResolveBody { reference, pull: _, push_as } = asked;
        let name = push_as.as_ref().unwrap_or(reference);
        if let Some(wrong) = [reference, name].into_iter().find(|it| full_name(it).is_none()) {
            let error = ApiError::invalid(format!("`{wrong}` is no name of an image"));
            return Err(error.hint("A name has the form of `redis:7` or `registry.local/till:3`."));
        }
        let mut resolved = match self.images.engine() {
            Some(engine) => self.with_engine(engine, asked, tell).await?,
            None => self.without_engine(asked).await?,
        };
        resolved.exposed = self.exposed(&resolved.image).await;
        let parts = &resolved.image.platforms;
        if let Some(name) = push_as {
            if parts.is_empty() {
                let message = format!("the image `{reference}` is not on this node");
                return Err(ApiError::new(StatusCode::NOT_FOUND, "no-such-image", message));
            }
            self.remember(ImageRecord::new(name, parts.clone(), true)).await?;
        }
        Ok(resolved)
    }

    /// The TCP ports that an image exposes. A configuration that is not on this node names none:
    /// its ports are then those that the workload names.
    async fn exposed(&self, image: &Image) -> Vec<u16> {
        let mut ports = BTreeSet::new();
        for platform in &image.platforms {
            let Ok(open) = self.artifacts.open_artifact(&platform.config.digest).await else {
                continue;
            };
            if platform.config.size <= MAX_CONFIG
                && let Ok(bytes) = tokio::fs::read(&open.path).await
            {
                ports.extend(exposed_ports(&bytes));
            }
        }
        ports.into_iter().collect()
    }

    async fn with_engine(
        &self,
        engine: &Containers,
        asked: &ResolveBody,
        tell: Tell<'_>,
    ) -> Result<ResolvedImage, ApiError> {
        let ResolveBody { reference, pull, .. } = asked;
        let found = match pull {
            PullPolicy::Always => None,
            PullPolicy::Missing | PullPolicy::Never => {
                engine.find_image(reference).await.map_err(of_engine)?
            }
        };
        if let Some(found) = found {
            return self.of_engine(engine, asked, found, "engine", tell).await;
        }
        if *pull != PullPolicy::Always
            && let Some(record) = self.pushed_image(reference).await?
        {
            return Ok(of_record(asked, record));
        }
        if *pull == PullPolicy::Never {
            return Ok(unknown(asked, "this node's engine does not have it, and no node holds it"));
        }
        let mut progress = |bytes, total| {
            tell(ImageProgress { what: format!("pulling {reference}"), bytes, total });
        };
        progress(0, 0);
        engine.pull_image(reference, &mut progress).await.map_err(|error| {
            let error = ApiError::new(StatusCode::BAD_GATEWAY, "not-pulled", error.to_string());
            error.hint(
                "Is the name right? An image that was built elsewhere comes with `docker save`, or \
                 with `shoal image push` on a node whose engine has it. Nothing was changed.",
            )
        })?;
        let found = engine.find_image(reference).await.map_err(of_engine)?;
        let found = found.ok_or_else(|| {
            let message = format!("the image {reference} is missing after it was pulled");
            ApiError::new(StatusCode::BAD_GATEWAY, "not-pulled", message)
        })?;
        self.of_engine(engine, asked, found, "registry", tell).await
    }

    async fn without_engine(&self, asked: &ResolveBody) -> Result<ResolvedImage, ApiError> {
        match self.pushed_image(&asked.reference).await? {
            Some(record) if asked.pull != PullPolicy::Always => Ok(of_record(asked, record)),
            _ => Ok(unknown(asked, "this node has no container engine that could look")),
        }
    }

    /// The image of the engine for a spec. An image of a registry that cannot be spread is pulled
    /// by each node, under its digest.
    async fn of_engine(
        &self,
        engine: &Containers,
        asked: &ResolveBody,
        found: EngineImage,
        from: &str,
        tell: Tell<'_>,
    ) -> Result<ResolvedImage, ApiError> {
        let ResolveBody { reference, pull, push_as } = asked;
        let digest = written_digest(reference).or(found.digest);
        let mut image = Image { digest, pull: *pull, ..Image::named(reference) };
        match self.store_parts(engine, reference, &found, tell).await {
            Ok(Stored { record, new_parts, known_parts }) => {
                image.platforms = record.platforms;
                let (from, notes) = (from.to_owned(), Vec::new());
                Ok(ResolvedImage {
                    image,
                    from,
                    new_parts,
                    known_parts,
                    notes,
                    exposed: Vec::new(),
                })
            }
            Err(error) if digest.is_some() && *pull != PullPolicy::Never && push_as.is_none() => {
                let note = format!(
                    "{reference} is pinned to its digest, and each node pulls it from the registry \
                     itself: {error}"
                );
                let from = from.to_owned();
                Ok(ResolvedImage {
                    image,
                    from,
                    new_parts: 0,
                    known_parts: 0,
                    notes: vec![note],
                    exposed: Vec::new(),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Puts the parts of an image of the engine into the store, unless it was done before.
    async fn store_parts(
        &self,
        engine: &Containers,
        reference: &str,
        found: &EngineImage,
        tell: Tell<'_>,
    ) -> Result<Stored, ApiError> {
        if let Some(record) = self.images.records.of_engine(&found.id) {
            let has = |part: &shoal_protocol::model::Artifact| {
                self.artifacts.has(&part.digest) == Some(part.size)
            };
            if record.parts().all(|part| has(&part)) {
                let known_parts = record.parts().count();
                return Ok(Stored { record, new_parts: 0, known_parts });
            }
        }
        let mut told = |bytes| {
            tell(ImageProgress { what: format!("reading {reference}"), bytes, total: 0 });
        };
        told(0);
        let exported = self.images.export(engine, reference, &mut told).await.map_err(|error| {
            let message = error.to_string();
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "not-exported", message)
        })?;
        let (new_parts, known_parts) = self.keep_parts(&exported, reference, tell).await?;
        let platforms = exported.one_per_arch().into_iter().map(|it| it.image.clone()).collect();
        let record = ImageRecord {
            engine_id: Some(found.id.clone()),
            digest: found.digest,
            ..ImageRecord::new(reference, platforms, false)
        };
        self.remember(record.clone()).await?;
        Ok(Stored { record, new_parts, known_parts })
    }

    /// Stores all parts of an image that was read. Returns how many were new, and how many known.
    async fn keep_parts(
        &self,
        found: &FoundImage,
        reference: &str,
        tell: Tell<'_>,
    ) -> Result<(usize, usize), ApiError> {
        let all: Vec<Part> = found
            .one_per_arch()
            .into_iter()
            .flat_map(|platform| platform.parts.iter().cloned().map(Part::of_image))
            .collect();
        let total: u64 = all.iter().map(|part| part.artifact.size).sum();
        let (mut new, mut known, mut bytes) = (0, 0, 0);
        for part in all {
            let artifact = part.artifact;
            match self.holds(&artifact.digest) {
                Some(_) => known += 1,
                None => {
                    let kind = ProgramKind::Container;
                    self.upload(kind, artifact.digest, part.reader()).await?;
                    new += 1;
                }
            }
            bytes += artifact.size;
            tell(ImageProgress { what: format!("storing {reference}"), bytes, total });
        }
        Ok((new, known))
    }

    /// The newest image that was pushed under this name, on whatever node, and whose parts are
    /// still there.
    async fn pushed_image(&self, name: &str) -> Result<Option<ImageRecord>, ApiError> {
        let (heres, unasked) = self.images_everywhere().await?;
        let records = heres.iter().flat_map(|(_, here)| &here.images);
        let called = records.filter(|record| record.pushed && record.is_called(name));
        let mut called: Vec<&ImageRecord> = called.collect();
        called.sort_by_key(|record| std::cmp::Reverse(record.at_ms));
        let Some(newest) = called.first() else { return Ok(None) };
        let is_held = |digest: &Digest| heres.iter().any(|(_, it)| it.artifacts.contains(digest));
        if let Some(part) = newest.parts().find(|part| !is_held(&part.digest)) {
            let asked = match unasked.is_empty() {
                true => String::new(),
                false => format!(" that answers (not: {})", unasked.join(", ")),
            };
            let message = format!(
                "the image `{name}` was pushed, but its part {} is on no node{asked}: it made room \
                 for something else",
                part.digest.short()
            );
            let error = ApiError::new(StatusCode::CONFLICT, "parts-gone", message);
            return Err(error.hint("Push it again; nothing was changed."));
        }
        Ok(Some((*newest).clone()))
    }
}

/// The digest that a reference has in itself.
fn written_digest(reference: &str) -> Option<Digest> {
    reference.rsplit_once("@sha256:")?.1.parse().ok()
}

fn of_record(asked: &ResolveBody, record: ImageRecord) -> ResolvedImage {
    let known_parts = record.parts().count();
    let image =
        Image { pull: asked.pull, platforms: record.platforms, ..Image::named(&asked.reference) };
    ResolvedImage {
        image,
        from: "pushed".into(),
        new_parts: 0,
        known_parts,
        notes: Vec::new(),
        exposed: Vec::new(),
    }
}

/// An image that only the nodes' engines may find.
fn unknown(asked: &ResolveBody, why: &str) -> ResolvedImage {
    let ResolveBody { reference, pull, .. } = asked;
    let digest = written_digest(reference);
    let notes = match digest {
        Some(_) => Vec::new(),
        None => {
            vec![format!("{reference} is not pinned, so replicas may run different bytes: {why}")]
        }
    };
    let image = Image { digest, pull: *pull, ..Image::named(reference) };
    ResolvedImage {
        image,
        from: "unknown".into(),
        new_parts: 0,
        known_parts: 0,
        notes,
        exposed: Vec::new(),
    }
}

fn of_engine(error: ImageRefused) -> ApiError {
    ApiError::new(StatusCode::BAD_GATEWAY, "engine", error.to_string())
}
