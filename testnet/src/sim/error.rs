//! Why a simulation ended early.

use std::fmt;

/// Why an action was not applied, or what it broke.
#[derive(PartialEq, Debug)]
pub enum SimError {
    /// The target does not exist at this moment; whether it does depends on the seed.
    NoTarget(String),
    /// The action can never be applied here: the scenario is wrong.
    Impossible(String),
    /// An invariant was broken.
    Broken(String),
}

impl From<String> for SimError {
    fn from(why: String) -> Self {
        SimError::Broken(why)
    }
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (SimError::NoTarget(why) | SimError::Impossible(why) | SimError::Broken(why)) = self;
        f.write_str(why)
    }
}
