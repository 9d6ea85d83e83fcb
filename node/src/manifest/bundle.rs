//! The content of files, whatever tool they were written for: the workloads, the secrets and
//! configs that they need, and a word about each field that came from another tool.

use shoal_protocol::model::spec::ValueKind;
use shoal_protocol::model::{Label, WorkloadName};

use super::tree::{Position, Problem, Sources};
use super::verdict::Note;
use crate::publish::Workload;

/// All that files describe, which becomes one plan and one prompt.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    /// The workloads, each name once.
    pub workloads: Vec<Item>,
    /// The secrets and configs, which are there before the workloads.
    pub values: Vec<Given>,
    /// The fate of each field.
    pub notes: Vec<Note>,
    /// Names that had to change to be DNS labels: as in the file, and here.
    pub renamed: Vec<(String, String)>,
    /// The files.
    pub sources: Sources,
}

/// A workload, and where it stands.
#[derive(Clone, Debug)]
pub struct Item {
    /// The workload.
    pub workload: Workload,
    /// Its place.
    pub at: Position,
}

/// A secret or config whose content the files hold.
#[derive(Clone, PartialEq, Eq)]
pub struct Given {
    /// Whether it is secret.
    pub kind: ValueKind,
    /// Its namespace and name.
    pub namespace: Label,
    /// Its name.
    pub name: Label,
    /// Its content.
    pub content: Vec<u8>,
    /// Its place.
    pub at: Position,
}

/// Its content stays out of logs.
impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Given { kind, namespace, name, .. } = self;
        write!(f, "Given({kind:?} {namespace}/{name})")
    }
}

/// Files that are refused, with every reason at once. Nothing was published.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The reasons, in the order of the files.
    pub problems: Vec<Problem>,
    /// The fate of each other field.
    pub notes: Vec<Note>,
    /// The files.
    pub sources: Sources,
}

impl Refusal {
    /// A refusal for one reason.
    pub fn one(problem: Problem, sources: Sources) -> Refusal {
        Refusal { problems: vec![problem], notes: Vec::new(), sources }
    }
}

impl Bundle {
    /// The workload of a name.
    pub fn workload(&self, name: &WorkloadName) -> Option<&Item> {
        self.workloads.iter().find(|it| it.workload.name() == name)
    }
}
