//! What this installation published last: a change that another operator made since is not
//! overwritten by a file that never saw it.
//!
//! One small file for each workload, beside the operator's key. A file that is lost or damaged
//! costs the check of one publish, and nothing else, so that no error stops a publish.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shoal_protocol::model::view::SpecBody;
use shoal_protocol::model::{Clock, ClusterId, Spec, WorkloadName, WriterId};
use shoal_protocol::node::Draft;

use super::{Published, files};

/// The folder in the operator's folder.
const FOLDER: &str = "published";
/// Bytes of one file: a spec with a full environment takes some 60 KiB.
const MAX_BYTES: u64 = 1 << 20;

/// The notes of one installation about one cluster.
#[derive(Clone, Debug, Default)]
pub struct Bases(Option<PathBuf>);

/// A workload as this installation published it last.
#[derive(Clone, PartialEq, Debug)]
pub struct Base {
    /// The writes that it had seen, its own included.
    clock: BTreeMap<WriterId, u64>,
    /// The spec.
    pub spec: Option<Spec>,
}

#[derive(Serialize, Deserialize)]
struct BaseBody {
    clock: BTreeMap<String, u64>,
    spec: Option<SpecBody>,
}

impl Base {
    /// The base after a write from this draft.
    pub fn after(draft: &Draft, writer: WriterId, spec: Option<Spec>) -> Base {
        let mut clock: BTreeMap<_, _> = draft.clock.iter().map(|(it, at)| (*it, *at)).collect();
        clock.insert(writer, draft.serial);
        Base { clock, spec }
    }

    /// Whether somebody else wrote since; the installation's own writes do not count.
    pub fn is_overtaken(&self, clock: &Clock, own: &WriterId) -> bool {
        let known = |writer: &WriterId| self.clock.get(writer).copied().unwrap_or_default();
        clock.iter().any(|(writer, serial)| writer != own && *serial > known(writer))
    }
}

impl Bases {
    /// The notes in the operator's folder about a cluster.
    pub fn of(operator: &Path, cluster: ClusterId) -> Bases {
        Bases(Some(operator.join(FOLDER).join(cluster.short())))
    }

    /// The folder of the notes.
    pub fn folder(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    /// The base of a workload, if it was noted.
    pub fn get(&self, name: &WorkloadName) -> Option<Base> {
        let file = self.file(name)?;
        let size = fs::metadata(&file).ok()?.len();
        let text = (size <= MAX_BYTES).then(|| fs::read(&file).ok()).flatten()?;
        let BaseBody { clock, spec } = serde_json::from_slice(&text).ok()?;
        let clock = clock.into_iter().map(|(writer, at)| Some((writer.parse().ok()?, at)));
        Some(Base {
            clock: clock.collect::<Option<_>>()?,
            spec: spec.map(Spec::try_from).transpose().ok()?,
        })
    }

    /// Notes a change that was made; without a base, that none is known any more.
    pub(super) fn note(&self, done: &Published, base: Option<Base>) {
        let Some(file) = self.file(&done.name) else { return };
        let Some(base) = base.filter(|base| base.spec.is_some()) else {
            let _ = fs::remove_file(file);
            return;
        };
        let clock = base.clock.iter().map(|(writer, at)| (writer.to_string(), *at)).collect();
        let body = BaseBody { clock, spec: base.spec.as_ref().map(SpecBody::from) };
        let Ok(text) = serde_json::to_vec(&body) else { return };
        if let Some(folder) = file.parent()
            && fs::create_dir_all(folder).is_ok()
        {
            let _ = files::write(&file, &text);
        }
    }

    fn file(&self, name: &WorkloadName) -> Option<PathBuf> {
        // Both are DNS labels.
        Some(self.0.as_ref()?.join(name.namespace.as_str()).join(format!("{}.json", name.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::spec;
    use crate::publish::Outcome;

    fn draft(clock: &[(u8, u64)], serial: u64) -> Draft {
        let clock = clock.iter().map(|(writer, at)| (WriterId([*writer; 32]), *at)).collect();
        Draft { clock, serial, uid: None }
    }

    fn published(name: &str, outcome: Outcome) -> Published {
        let spec = spec(name, 1);
        let name = spec.name.clone();
        Published { name, spec: Some(spec), outcome, warnings: Vec::new() }
    }

    /// Another operator's write counts, also one at the same time; one's own never does.
    #[test]
    fn base_is_overtaken_by_others_alone() {
        let own = WriterId([1; 32]);
        let base = Base::after(&draft(&[(2, 5)], 7), own, None);
        let overtaken = |clock: &[(u8, u64)]| base.is_overtaken(&draft(clock, 0).clock, &own);
        assert!(!overtaken(&[(1, 7), (2, 5)]));
        assert!(!overtaken(&[(1, 9), (2, 5)]), "scaled by the same installation");
        assert!(overtaken(&[(1, 7), (2, 8)]));
        assert!(overtaken(&[(1, 7), (2, 5), (3, 6)]));
    }

    /// A note is read as it was written, is gone with the workload, and a damaged one is none.
    #[test]
    fn notes_are_kept_and_damage_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let bases = Bases::of(folder.path(), ClusterId([7; 32]));
        let done = published("shop/web", Outcome::Created);
        let base = Base::after(&draft(&[(2, 5)], 7), WriterId([1; 32]), done.spec.clone());
        assert_eq!(bases.get(&done.name), None);
        bases.note(&done, Some(base.clone()));
        assert_eq!(bases.get(&done.name), Some(base.clone()));
        let seen = Base::after(&draft(&[(2, 9)], 10), WriterId([1; 32]), done.spec.clone());
        bases.note(&published("shop/web", Outcome::Unchanged), Some(seen.clone()));
        assert_eq!(bases.get(&done.name), Some(seen), "another's same spec was seen");
        fs::write(bases.file(&done.name).unwrap(), "{").unwrap();
        assert_eq!(bases.get(&done.name), None);
        bases.note(&done, Some(Base { spec: None, ..base }));
        assert!(!bases.file(&done.name).unwrap().exists());
    }
}
