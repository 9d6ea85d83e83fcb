//! The WebAssembly adapter does what every adapter must.

#[cfg(test)]
#[allow(dead_code, reason = "shared with other tests, which need more of it")]
mod bed;
#[cfg(test)]
mod guests;

shoal_runtimes::contract_suite!(bed::Bed::new().await);
