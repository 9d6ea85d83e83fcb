//! The images that were pushed to this node or published through it, by name, in a small file.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use shoal_protocol::model::Digest;
use shoal_protocol::model::spec::{Artifact, PlatformImage};
use shoal_runtimes::images::full_name;

use crate::publish::files::{self, FileError};

/// Bytes of the file. Beyond it the oldest records go, those that nobody pushed first.
const MAX_BYTES: usize = 768 * 1024;
/// Records kept, for the same reason: a name costs little, and somebody has to read the list.
const MAX_RECORDS: usize = 500;

/// An image with a name, whose bytes were put into the store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The name, as a person wrote it.
    pub name: String,
    /// The engine's id of it, if it was exported: the same image need not be exported again.
    #[serde(default)]
    pub engine_id: Option<String>,
    /// The digest in the registry that it came from.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// Its parts for each platform.
    pub platforms: Vec<PlatformImage>,
    /// A person pushed it, so that `run` finds it by its name on every node. Otherwise it came here
    /// with a workload.
    pub pushed: bool,
    /// When it was put here, in milliseconds since 1970.
    pub at_ms: u64,
}

#[derive(Serialize, Deserialize, Default)]
struct Kept {
    images: Vec<ImageRecord>,
}

/// The records of one node.
pub struct Records {
    file: PathBuf,
    kept: Mutex<Vec<ImageRecord>>,
}

impl ImageRecord {
    /// A record of this moment.
    pub fn new(name: &str, platforms: Vec<PlatformImage>, pushed: bool) -> ImageRecord {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        ImageRecord {
            name: name.to_owned(),
            engine_id: None,
            digest: None,
            platforms,
            pushed,
            at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Whether this is its name, perhaps in another form: `redis` is `docker.io/library/redis`.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || full_name(&self.name).is_some_and(|it| full_name(name) == Some(it))
    }

    /// The parts of all its platforms.
    pub fn parts(&self) -> impl Iterator<Item = Artifact> + '_ {
        parts(&self.platforms)
    }

    /// The digests of its configurations, by which two images are the same.
    pub fn configs(&self) -> BTreeSet<Digest> {
        self.platforms.iter().map(|platform| platform.config.digest).collect()
    }
}

/// The parts of some platforms of an image. One that several share comes several times.
pub fn parts(platforms: &[PlatformImage]) -> impl Iterator<Item = Artifact> + '_ {
    platforms.iter().flat_map(PlatformImage::parts)
}

impl Records {
    /// The records in `file`. One that cannot be read is left alone and replaced by the next
    /// record: it names images, and has none.
    pub fn open(file: PathBuf) -> Records {
        let read = files::read(&file).map_err(|error| error.to_string());
        let parsed = read.and_then(|text| match text {
            Some(text) => serde_json::from_str::<Kept>(&text)
                .map_err(|error| format!("{} makes no sense: {error}", file.display())),
            None => Ok(Kept::default()),
        });
        let kept = parsed.unwrap_or_else(|why| {
            tracing::warn!("the names of images are lost, their bytes are not: {why}");
            Kept::default()
        });
        Records { file, kept: Mutex::new(kept.images) }
    }

    /// All records, in the order in which they came.
    pub fn all(&self) -> Vec<ImageRecord> {
        self.lock().clone()
    }

    /// The exported image with this id of the engine.
    pub fn of_engine(&self, id: &str) -> Option<ImageRecord> {
        let is_it = |record: &&ImageRecord| record.engine_id.as_deref() == Some(id);
        self.lock().iter().rev().find(is_it).cloned()
    }

    /// Adds a record. It replaces that of the same name and origin: pushed, or published.
    ///
    /// # Errors
    /// The file cannot be written; the record is known until the node stops.
    pub async fn add(self: &std::sync::Arc<Self>, record: ImageRecord) -> Result<(), FileError> {
        self.change(move |all| {
            all.retain(|it| it.pushed != record.pushed || !it.is_called(&record.name));
            all.push(record);
        })
        .await
    }

    /// Removes the records that `wanted` refuses.
    ///
    /// # Errors
    /// The file cannot be written; the records come back when the node starts again.
    pub async fn retain(
        self: &std::sync::Arc<Self>,
        wanted: impl Fn(&ImageRecord) -> bool + Send + 'static,
    ) -> Result<(), FileError> {
        self.change(move |all| all.retain(|it| wanted(it))).await
    }

    async fn change(
        self: &std::sync::Arc<Self>,
        change: impl FnOnce(&mut Vec<ImageRecord>) + Send + 'static,
    ) -> Result<(), FileError> {
        let records = self.clone();
        let work = move || {
            // Held while the file is written, on a thread that may block: the file is never older.
            let mut kept = records.lock();
            change(&mut kept);
            bound(&mut kept);
            let written = Kept { images: kept.clone() };
            files::write_json(&records.file, &written)
        };
        tokio::task::spawn_blocking(work).await.expect("the writer does not panic")
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ImageRecord>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes records until the rest fits.
fn bound(all: &mut Vec<ImageRecord>) {
    let size = |record: &ImageRecord| serde_json::to_string_pretty(record).map_or(0, |it| it.len());
    let mut bytes: usize = all.iter().map(size).sum();
    while !all.is_empty() && (bytes > MAX_BYTES || all.len() > MAX_RECORDS) {
        let at = all.iter().position(|record| !record.pushed).unwrap_or(0);
        bytes -= size(&all[at]);
        all.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn record(name: &str, layers: u8, pushed: bool) -> ImageRecord {
        let part = |n: u8| Artifact { digest: Digest([n; 32]), size: 1 };
        let layers = (0..layers).map(part).collect();
        let platform = PlatformImage {
            arch: "x86_64".into(),
            config: part(200),
            layers,
            pieces: Some(part(201)),
        };
        ImageRecord::new(name, vec![platform], pushed)
    }

    #[tokio::test]
    async fn records_survive_a_restart_and_replace_their_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("images.json");
        let records = Arc::new(Records::open(file.clone()));
        records.add(record("redis:7", 1, true)).await.unwrap();
        records.add(record("docker.io/library/redis:7", 2, true)).await.unwrap();
        records.add(record("redis:7", 3, false)).await.unwrap();
        let again = Records::open(file.clone()).all();
        assert_eq!(again, records.all());
        let layers: Vec<usize> = again.iter().map(|it| it.platforms[0].layers.len()).collect();
        assert_eq!(layers, [2, 3], "one that was pushed, one of a workload");
        std::fs::write(&file, "{").unwrap();
        assert!(Records::open(file).all().is_empty());
    }

    /// Whatever comes, the file stays one that can be read again, and pushed images stay longest.
    #[tokio::test]
    async fn file_stays_within_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("images.json");
        let records = Arc::new(Records::open(file.clone()));
        records.add(record("pushed", 120, true)).await.unwrap();
        for n in 0..60 {
            records.add(record(&format!("run-{n}"), 120, false)).await.unwrap();
        }
        let kept = Records::open(file).all();
        assert_eq!(kept, records.all());
        assert!(kept.len() < 61, "{}", kept.len());
        assert!(kept.iter().any(|it| it.name == "pushed"));
        assert!(kept.iter().any(|it| it.name == "run-59"), "the latest stays");
    }
}
