//! Puts the WebAssembly adapter through the contract suite.

#[cfg(test)]
mod guests;
#[cfg(test)]
#[allow(dead_code, reason = "shared with other tests, which need more of it")]
mod harness;

shoal_runtimes::contract_suite!(harness::Harness::new().await);
shoal_runtimes::component_suite!(harness::Harness::new().await);
