//! Makes a libFuzzer program of a target. The targets themselves are plain functions of the crates
//! whose decoders they try, where tests run them, too.

use std::path::Path;

use shoal_testnet::fuzz::Target;

#[doc(hidden)]
pub use libfuzzer_sys;

/// The folder into which a program writes its seeds before it reads its corpus.
const SEEDS: &str = "SHOAL_FUZZ_SEEDS";

/// Called once, before libFuzzer reads the corpus.
pub fn begin(target: &Target) {
    if let Some(folder) = std::env::var_os(SEEDS) {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let file = Path::new(&folder).join(format!("seed-{number}"));
            std::fs::write(file, seed).expect("the folder of seeds can be written");
        }
    }
}

/// The program of a target.
#[macro_export]
macro_rules! program {
    ($target:expr) => {
        static TARGET: std::sync::LazyLock<shoal_testnet::fuzz::Target> =
            std::sync::LazyLock::new(|| $target);
        $crate::libfuzzer_sys::fuzz_target!(
            init: $crate::begin(&TARGET),
            |data: &[u8]| (TARGET.run)(&data[..data.len().min(TARGET.most)])
        );
    };
}
