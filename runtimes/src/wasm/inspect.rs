//! Recognises a file's kind without compiling it.

use wasmparser::{
    BinaryReaderError, ComponentExternalKind, ComponentTypeRef, Encoding, Parser, Payload,
};

/// The kinds of components that shoal can run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// It answers HTTP: the world `wasi:http/proxy`. So is one that is both.
    Http,
    /// It runs to its end: the world `wasi:cli/command`.
    Command,
}

/// A file is refused. The message says what was found and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The file has no bytes.
    #[error(
        "the file is empty; shoal runs WebAssembly components: build with --target wasm32-wasip2"
    )]
    Empty,
    /// The file is not WebAssembly.
    #[error(
        "this is {found}, not WebAssembly; shoal runs components: build with --target wasm32-wasip2"
    )]
    NotWasm {
        /// The kind of file, by its first bytes.
        found: &'static str,
    },
    /// A core module, not a component.
    #[error(
        "this is a core WebAssembly module; shoal runs components: build with --target \
            wasm32-wasip2"
    )]
    CoreModule,
    /// The file was cut short or altered.
    #[error("this WebAssembly file is damaged at byte {offset}: {reason}; build or copy it again")]
    Damaged {
        /// Bytes before the damage.
        offset: u64,
        /// The parser's error there.
        reason: String,
    },
    /// The component exports neither the HTTP handler nor what runs a command.
    #[error(
        "this component is {found}; shoal runs components that answer HTTP, which export \
            wasi:http/incoming-handler@0.2, and commands, which export wasi:cli/run@0.2: a \
            program with a `main`"
    )]
    OtherWorld {
        /// The world that it is for.
        found: String,
    },
    /// The component imports interfaces that shoal does not offer.
    #[error("this component imports {}, which shoal does not offer; it offers WASI 0.2 \
        ({})", .imports.join(", "), OFFERED.join(", "))]
    UnknownImports {
        /// The first five names.
        imports: Vec<String>,
    },
}

/// The packages that a component may import, all of version 0.2.
const OFFERED: [&str; 7] = [
    "wasi:cli",
    "wasi:clocks",
    "wasi:filesystem",
    "wasi:http",
    "wasi:io",
    "wasi:random",
    "wasi:sockets",
];
/// The export of a component that answers HTTP.
const HANDLER: &str = "wasi:http/incoming-handler";
/// The export of a component that runs to its end.
const RUN: &str = "wasi:cli/run";
/// Imports that a refusal names: enough to see what is missing.
const NAMED: usize = 5;

/// Checks by imports and exports whether shoal can run these bytes. Errors that only a compiler
/// finds come when the artifact is prepared.
///
/// # Errors
/// The reason why shoal cannot run them.
pub fn inspect(bytes: &[u8]) -> Result<Kind, Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::Empty);
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(Refusal::NotWasm { found: what_else(bytes) });
    }
    let outline = Outline::read(bytes)?;
    outline.judge()
}

/// Names of a component's imports and exports.
#[derive(Default)]
struct Outline {
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Outline {
    fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let damaged = |error: BinaryReaderError| Refusal::Damaged {
            offset: error.offset() as u64,
            reason: error.message().to_owned(),
        };
        let mut outline = Outline::default();
        // Components nest: only the outermost matters to shoal.
        let mut depth = 0u32;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(damaged)? {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                    return Err(Refusal::CoreModule);
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let import = import.map_err(damaged)?;
                        // An imported type is only a name: the host has to provide nothing.
                        if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                            outline.imports.push(import.name.name.to_owned());
                        }
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let export = export.map_err(damaged)?;
                        if export.kind == ComponentExternalKind::Instance {
                            outline.exports.push(export.name.name.to_owned());
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }

    fn judge(self) -> Result<Kind, Refusal> {
        let unknown = self.imports.iter().filter(|import| !is_offered(import));
        let unknown: Vec<_> = unknown.take(NAMED).cloned().collect();
        // The world is checked first, since a component of another world imports other things too.
        let has = |interface| self.exports.iter().any(|export| is_version_02(export, interface));
        let kind = match (has(HANDLER), has(RUN)) {
            (true, _) => Kind::Http,
            (false, true) => Kind::Command,
            (false, false) => return Err(Refusal::OtherWorld { found: self.world() }),
        };
        if unknown.is_empty() {
            Ok(kind)
        } else {
            Err(Refusal::UnknownImports { imports: unknown })
        }
    }

    fn world(&self) -> String {
        let exports =
            |prefix: &str| self.exports.iter().find(|export| export.starts_with(prefix)).cloned();
        if let Some(export) = exports("wasi:http/").or_else(|| exports("wasi:cli/")) {
            return format!("for another version of WASI (it exports {export})");
        }
        match self.exports.first() {
            Some(first) => format!("for another world (it exports {first})"),
            None => "without any exported interface".to_owned(),
        }
    }
}

fn is_offered(import: &str) -> bool {
    match import.split_once('/') {
        Some((package, _)) => {
            OFFERED.contains(&package)
                && is_version_02(import, import.split('@').next().unwrap_or(""))
        }
        None => false,
    }
}

fn is_version_02(name: &str, interface: &str) -> bool {
    name.strip_prefix(interface).is_some_and(|version| version.starts_with("@0.2."))
}

/// The probable kind of a file that is not WebAssembly, by its first bytes.
fn what_else(bytes: &[u8]) -> &'static str {
    const KNOWN: [(&[u8], &str); 9] = [
        (b"\x7fELF", "a Linux program"),
        (b"MZ", "a Windows program"),
        (b"\xcf\xfa\xed\xfe", "a macOS program"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"#!", "a script"),
        (b"(module", "WebAssembly in its text form"),
        (b"(component", "WebAssembly in its text form"),
        (b"!<arch>", "a static library"),
    ];
    let known = KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic));
    match known {
        Some((_, found)) => found,
        None if std::str::from_utf8(&bytes[..bytes.len().min(512)]).is_ok() => "a text file",
        None => "data of an unknown kind",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";

    /// A component that imports an empty instance under one name and exports it under another.
    fn passing_on(import: &str, export: &str) -> Vec<u8> {
        let section = |id: u8, content: Vec<u8>| {
            let len = u8::try_from(content.len()).unwrap();
            assert!(len < 128);
            [vec![id, len], content].concat()
        };
        let named = |name: &str| {
            [vec![0, u8::try_from(name.len()).unwrap()], name.as_bytes().to_vec()].concat()
        };
        let types = section(7, vec![1, 0x42, 0]);
        let imports = section(10, [vec![1], named(import), vec![5, 0]].concat());
        let exports = section(11, [vec![1], named(export), vec![5, 0, 0]].concat());
        [COMPONENT.to_vec(), types, imports, exports].concat()
    }

    #[test]
    fn wrong_file_kind_is_named() {
        assert_eq!(inspect(b""), Err(Refusal::Empty));
        assert_eq!(inspect(b"\x7fELF\x02"), Err(Refusal::NotWasm { found: "a Linux program" }));
        assert_eq!(inspect(b"hello"), Err(Refusal::NotWasm { found: "a text file" }));
        assert_eq!(
            inspect(b"\xff\x00\xfe"),
            Err(Refusal::NotWasm { found: "data of an unknown kind" })
        );
        assert_eq!(inspect(b"\0asm\x01\0\0\0"), Err(Refusal::CoreModule));
        assert_eq!(
            inspect(b"\0asm\x01\0\0\0").unwrap_err().to_string(),
            "this is a core WebAssembly module; shoal runs components: build with --target \
                wasm32-wasip2"
        );
    }

    #[test]
    fn http_component_is_accepted_in_any_patch_version() {
        for version in ["0.2.0", "0.2.12"] {
            let bytes = passing_on(
                &format!("wasi:io/poll@{version}"),
                &format!("wasi:http/incoming-handler@{version}"),
            );
            assert_eq!(inspect(&bytes), Ok(Kind::Http));
        }
    }

    #[test]
    fn refusal_names_the_component_world() {
        let command = passing_on("wasi:io/poll@0.2.0", "wasi:cli/run@0.2.0");
        assert_eq!(inspect(&command), Ok(Kind::Command));
        let later = inspect(&passing_on("wasi:io/poll@0.2.0", "wasi:cli/run@0.3.0")).unwrap_err();
        let text = later.to_string();
        assert!(text.contains("version of WASI (it exports wasi:cli/run@0.3.0)"), "{text}");
        let next =
            inspect(&passing_on("wasi:io/poll@0.2.0", "wasi:http/handler@0.3.0")).unwrap_err();
        assert!(next.to_string().contains("for another version of WASI"), "{next}");
        let none = inspect(&COMPONENT).unwrap_err();
        assert!(none.to_string().contains("without any exported interface"), "{none}");
    }

    /// Other packages, other versions, and names without a version.
    #[test]
    fn refusal_names_imports_that_are_not_offered() {
        for import in [
            "acme:sensor/read",
            "wasi:nn/tensor@0.2.0",
            "wasi:io/poll@0.3.0",
            "wasi:io/poll",
            "plain",
        ] {
            let refusal = inspect(&passing_on(import, "wasi:http/incoming-handler@0.2.0"));
            assert_eq!(refusal, Err(Refusal::UnknownImports { imports: vec![import.to_owned()] }));
        }
    }

    /// A cut between two sections leaves a valid component with fewer exports.
    #[test]
    fn truncated_component_is_refused_at_any_length() {
        let whole = passing_on("wasi:io/poll@0.2.0", "wasi:http/incoming-handler@0.2.0");
        for len in 4..whole.len() {
            let refusal = inspect(&whole[..len]).expect_err("a part of a file");
            let found_at_a_border = matches!(refusal, Refusal::OtherWorld { .. });
            assert!(
                found_at_a_border || matches!(refusal, Refusal::Damaged { .. }),
                "{len}: {refusal}"
            );
        }
    }
}
