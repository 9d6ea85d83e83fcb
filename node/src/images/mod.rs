//! The images that this node knows by name, and the engine that provides more.
//!
//! ```text
//!   engine ── export ──▶ archive in a file ── read ──▶ parts in the artifact store
//!   a name, the parts of each platform ──▶ records, a small file in the store's folder
//! ```
//!
//! **A record keeps no bytes.** The store evicts the parts of images that no workload needs by
//! their last use, when it needs room; the record then tells that they are gone.

mod preload;
mod records;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shoal_runtimes::container::{Containers, ImageRefused, Removable};
use shoal_runtimes::images::FoundImage;
use shoal_runtimes::{DeviceError, images};
use tokio::sync::Semaphore;

use crate::runtimes::engine::Engine;
use crate::spool::{self, SpoolError};

pub use preload::preload;
pub use records::{ImageRecord, Records, parts};

/// The name of the file with the records, in the store's folder.
const RECORDS: &str = "images.json";
/// The folder for archives that are being read, which the store empties at its start.
pub const SPOOL: &str = "tmp";

/// The images of one node. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    engine: Option<Arc<Engine>>,
    /// The images with a name.
    pub records: Arc<Records>,
    spool: PathBuf,
    /// A permit for the one export under way: each takes the disk that all share.
    exports: Arc<Semaphore>,
}

/// Why an image of the engine could not be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ExportError {
    #[error(transparent)]
    Engine(#[from] ImageRefused),
    #[error(transparent)]
    Spool(#[from] SpoolError<ImageRefused>),
    #[error(transparent)]
    Read(#[from] images::ImageError),
    #[error("the engine gave an archive without an image")]
    Empty,
}

impl Images {
    /// The images of the node whose artifacts are in the folder `store`. `engine`: the adapter of
    /// its container engine, if it may have one.
    pub fn open(store: &Path, engine: Option<Arc<Engine>>) -> Images {
        Images {
            engine,
            records: Arc::new(Records::open(store.join(RECORDS))),
            spool: store.join(SPOOL),
            exports: Arc::new(Semaphore::new(1)),
        }
    }

    /// The adapter of the engine, if it answers now.
    pub fn engine(&self) -> Option<&Containers> {
        self.engine.as_ref()?.reachable()
    }

    /// Takes an image out of the engine, and reads its parts. They are in a file that vanishes with
    /// the last of them. `told` gets the bytes that have come.
    ///
    /// # Errors
    /// The engine refuses, the disk is full, or the archive makes no sense.
    pub async fn export(
        &self,
        engine: &Containers,
        reference: &str,
        told: &mut (dyn FnMut(u64) + Send),
    ) -> Result<FoundImage, ExportError> {
        let _one_at_a_time = self.exports.acquire().await;
        let chunks = engine.export_image(reference).await?;
        let file = spool::write(&self.spool, "export", chunks, told).await?;
        let spool = self.spool.clone();
        // The parts keep the file open after its name is gone.
        let read = move || images::read(file.path(), &spool);
        let read = tokio::task::spawn_blocking(read).await.expect("the reader does not panic")?;
        read.into_iter().next().ok_or(ExportError::Empty)
    }

    /// Removes the images from the engine that were loaded from parts and that nothing needs.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn prune_engine(&self, dry_run: bool) -> Result<Vec<Removable>, DeviceError> {
        match self.engine() {
            Some(engine) => engine.prune_images(dry_run).await,
            None => Ok(Vec::new()),
        }
    }
}
