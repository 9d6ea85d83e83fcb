//! Puts the container adapter through the contract suite and through tests of its own, on a Docker
//! and a Podman engine that the tests start. As root, with both installed:
//!
//! ```text
//! cargo test -p shoal-runtimes --test containers -- --ignored
//! ```
#![expect(clippy::unwrap_used, reason = "a test program")]

mod engines;

/// Makes a test of each named function for each engine.
macro_rules! on_both {
    ($($case:ident)*) => {
        mod docker {
            $(
                #[test]
                #[ignore = "needs engines: cargo testnet check --engines"]
                fn $case() {
                    $crate::engines::run(super::$case($crate::engines::Kind::Docker));
                }
            )*
        }

        mod podman {
            $(
                #[test]
                #[ignore = "needs engines: cargo testnet check --engines"]
                fn $case() {
                    $crate::engines::run(super::$case($crate::engines::Kind::Podman));
                }
            )*
        }
    };
}

#[path = "containers/absence.rs"]
mod absence;
#[path = "containers/ends.rs"]
mod ends;
#[path = "containers/groups.rs"]
mod groups;
#[path = "containers/healthchecks.rs"]
mod healthchecks;
#[path = "containers/hooks.rs"]
mod hooks;
#[path = "containers/images.rs"]
mod images;
#[path = "containers/lives.rs"]
mod lives;
#[path = "containers/options.rs"]
mod options;
#[path = "containers/sessions.rs"]
mod sessions;
#[path = "containers/setup.rs"]
mod setup;
#[path = "containers/volumes.rs"]
mod volumes;

mod contract_on_docker {
    use crate::engines::harness::Harness;
    use crate::engines::{Kind, shared};

    shoal_runtimes::contract_suite!(
        Harness::on(shared(Kind::Docker)).await,
        run = crate::engines::run,
        ignore = "needs engines: cargo testnet check --engines"
    );
}

mod contract_on_podman {
    use crate::engines::harness::Harness;
    use crate::engines::{Kind, shared};

    shoal_runtimes::contract_suite!(
        Harness::on(shared(Kind::Podman)).await,
        run = crate::engines::run,
        ignore = "needs engines: cargo testnet check --engines"
    );
}
