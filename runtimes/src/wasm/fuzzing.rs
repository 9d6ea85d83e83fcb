//! Target: files that are said to be components.

use shoal_protocol::fuzzing::Target;

use super::inspect;

/// The bytes of a file.
pub const TARGET: Target = Target { name: "component", run, seeds, most: 4_096 };

fn run(data: &[u8]) {
    if let Err(refusal) = inspect(data) {
        assert!(refusal.to_string().len() < 16 * 1024, "an error of a stranger's making");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    let named = |section: u8, name: &str, more: &[u8]| {
        let name = name.as_bytes();
        let length = u8::try_from(name.len()).expect("a short name");
        let body = [&[1, 0, length][..], name, more].concat();
        let size = u8::try_from(body.len()).expect("a short body");
        [COMPONENT, &[section, size], &body].concat()
    };
    vec![
        COMPONENT.to_vec(),
        MODULE.to_vec(),
        // An instance type, an import of it, and an export.
        [COMPONENT, b"\x07\x03\x01\x42\0"].concat(),
        named(10, "wasi:http/types@0.2.0", &[5, 0]),
        named(11, "wasi:http/incoming-handler@0.2.0", &[5, 0, 0]),
        // A module within a component.
        [COMPONENT, b"\x01\x08", MODULE].concat(),
        b"\x7fELF".to_vec(),
        b"#!/bin/sh".to_vec(),
    ]
}
