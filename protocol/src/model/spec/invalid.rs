//! The reasons why a spec is refused.

use super::{
    DEFAULT_MEMORY, MAX_ARTIFACT, MAX_CPU, MAX_ENV, MAX_ENV_BYTES, MAX_LABELS, MAX_REPLICAS, shown,
};

/// Why a spec is refused. Each names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum InvalidSpec {
    #[error("{0}: not supported yet by this version of shoal")]
    NotSupported(&'static str),
    #[error("replicas: {0} is more than {MAX_REPLICAS}")]
    Replicas(u32),
    #[error("memory: {} is outside 2MiB to 1TiB", shown::size(*.0))]
    Memory(u64),
    #[error("cpu: {} of a core is outside 0.001 to {}", cores(*.0), cores(MAX_CPU))]
    Cpu(u32),
    #[error(
        "memory: the limit of {} is {}",
        shown::size(*.limit),
        wrong_limit(*.limit, *.reservation)
    )]
    MemoryLimit { limit: u64, reservation: u64 },
    #[error(
        "cpu: a limit of {} cores is below the {} that are reserved, or above {}",
        cores(*.limit),
        cores(*.reservation),
        cores(MAX_CPU)
    )]
    CpuLimit { limit: u32, reservation: u32 },
    #[error("{field}: {why}")]
    Container { field: &'static str, why: String },
    #[error("health: {probe}: {why}")]
    Health { probe: &'static str, why: String },
    #[error("artifact: {0} bytes is outside 1 to {MAX_ARTIFACT}")]
    Artifact(u64),
    #[error("env: {0} variables, at most {MAX_ENV} are allowed")]
    EnvCount(usize),
    #[error("env: {0} bytes in all, at most {MAX_ENV_BYTES} are allowed")]
    EnvBytes(usize),
    #[error(
        "env: `{0}` is not a variable name (letters, digits and `_`, not starting with a digit)"
    )]
    EnvName(String),
    #[error("env: the value of `{0}` contains a NUL byte")]
    EnvValue(String),
    #[error("env: `{0}` is set by shoal itself; names starting with SHOAL_ are reserved")]
    EnvReserved(String),
    #[error("{field}: {why}")]
    Kind { field: &'static str, why: String },
    #[error("require: {0} labels, at most {MAX_LABELS} are allowed")]
    LabelCount(usize),
    #[error("require: `{0}` is not a label (1 to 63 letters, digits, `-`, `_`, `.` and `/`)")]
    Label(String),
}

fn wrong_limit(limit: u64, reservation: u64) -> String {
    match limit < reservation {
        true => format!(
            "below the {} that are reserved; without a number of its own {} are",
            shown::size(reservation),
            shown::size(DEFAULT_MEMORY)
        ),
        false => "above 1TiB".to_owned(),
    }
}

/// Thousandths of a core as people write cores.
fn cores(thousandths: u32) -> f64 {
    f64::from(thousandths) / 1_000.0
}
