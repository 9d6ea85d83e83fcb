//! The engine's settings. The host and the compiling child must agree on them, so both use these.

use ring::digest::{Context, SHA256};
use wasmtime::{Config, Engine, OptLevel};

/// The use of an engine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Runs compiled code. Has no compiler, which would cost memory and never be used.
    Run,
    /// Compiles, in a child process.
    Compile,
}

/// An engine with shoal's settings.
pub(super) fn engine(role: Role) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // Guests are interrupted at loop heads and calls when the ticker advances the epoch.
        .epoch_interruption(true)
        // The defaults reserve gigabytes of addresses a memory, more than small ARM devices have.
        .memory_reservation(16 << 20)
        .memory_reservation_for_growth(1 << 20)
        .memory_guard_size(64 << 10)
        // Only backtraces and profilers use these, and they make compiled code half as large again.
        .generate_address_map(false)
        .native_unwind_info(false)
        // Components of preview 3 are refused; without it a store is cheaper.
        .concurrency_support(false);
    match role {
        Role::Compile => config.cranelift_opt_level(OptLevel::Speed),
        Role::Run => config.enable_compiler(false),
    };
    Engine::new(&config)
}

/// A hash of everything that decides whether compiled code fits this engine.
pub(super) fn compatibility(engine: &Engine) -> [u8; 32] {
    struct Sha(Context);

    impl std::hash::Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            0 // never called: the digest is taken instead
        }
    }

    let mut sha = Sha(Context::new(&SHA256));
    std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut sha);
    sha.0.update(std::env::consts::ARCH.as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(sha.0.finish().as_ref());
    out
}
