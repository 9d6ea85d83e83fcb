//! The gap between what is wished for and what is claimed: pure, and every entry says why it is
//! there.
//!
//! It decides nothing that needs more than its arguments. Missing places are for the owner to
//! auction; a surplus is for its holder alone to stop, and a duplicate only after the keeper
//! answered (see the room `claims`).

mod gap;
mod pace;
#[cfg(test)]
mod tests;

pub use gap::{
    Desire, Gap, Held, HeldWhy, Holder, HolderPhase, Missing, MissingWhy, NodeState, Surplus,
    SurplusWhy, plan,
};
pub use pace::{Pace, PaceConfig};
