//! Files of volumes on their way out, for all adapters that keep volumes.

pub(crate) mod folder;
mod sending;

pub(crate) use sending::Sending;
