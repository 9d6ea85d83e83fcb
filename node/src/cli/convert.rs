//! `shoal convert`.

use clap::Args;

use super::context::Context;
use super::error::CliError;
use super::files::Files;
use super::out;
use crate::manifest::write::written;

/// Print files of Compose or Kubernetes as manifests of shoal, and change nothing
///
/// With --explain it prints each field of the files, what becomes of it, and why. No daemon is
/// asked. Secrets and configs of the files are named, and their content is not printed.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal convert compose.yaml > shop.yaml\n  \
    shoal convert --explain compose.yaml\n  helm template shop ./chart | shoal convert -")]
pub struct Convert {
    #[command(flatten)]
    files: Files,
    /// Print what becomes of each field
    #[arg(long)]
    explain: bool,
    /// Print the merged project as `docker-compose config --format json` does, for tests
    #[arg(long, hide = true)]
    merged: bool,
}

impl Convert {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        if self.merged {
            return out::say_raw(&format!("{}\n", self.files.merged()?));
        }
        let read = self.files.judged()?;
        read.warnings.iter().for_each(|warning| context.note(&format!("warning: {warning}")));
        if self.explain {
            explain(context, &read.explained)?;
            return read.accepted().map(drop);
        }
        let read = read.accepted()?;
        for given in &read.values {
            let (word, namespace, name) = (given.kind.word(), &given.namespace, &given.name);
            context.note(&format!(
                "{word} {namespace}/{name} comes with the files: `shoal publish` sets it"
            ));
        }
        let documents = read.placed.iter().map(|it| written(&it.workload));
        let documents = documents.collect::<Result<Vec<_>, _>>().map_err(CliError::failed)?;
        out::say_raw(&documents.join("---\n"))
    }
}

fn explain(
    context: &Context,
    all: &[(String, crate::manifest::verdict::Note)],
) -> Result<(), CliError> {
    if all.is_empty() {
        context.note("These are manifests of shoal: every field counts.");
        return Ok(());
    }
    let mut text = String::new();
    for (place, note) in all {
        text += &format!("{place}  {}  {}: {}\n", note.field, note.verdict.as_str(), note.text);
    }
    out::say_raw(&text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        files: Files,
    }

    /// The examples of Compose and Kubernetes say the same as manifests of shoal, which are read
    /// back.
    #[test]
    fn examples_of_other_tools_are_manifests_of_ours() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let converted = |file: &str| {
            let file = folder.join(file).display().to_string();
            let read = Line::parse_from(["convert", &file]).files.read().unwrap_or_else(|error| {
                panic!("{file}: {}", error.message);
            });
            let documents: Vec<String> =
                read.placed.iter().map(|it| written(&it.workload).unwrap()).collect();
            let text = documents.join("---\n");
            let again = crate::manifest::parse(&text, Path::new("/")).unwrap();
            let workloads: Vec<_> = read.placed.into_iter().map(|it| it.workload).collect();
            assert_eq!(again, workloads, "{text}");
            text
        };
        let has = |text: &str, all: &[&str]| {
            all.iter().for_each(|line| assert!(text.contains(line), "`{line}` in:\n{text}"));
        };
        let shop = converted("compose/compose.yaml");
        has(&shop, &["name: web\nnamespace: shop\nimage: \"nginx:1.27\"\nreplicas: 2\n", "after:"]);
        has(&shop, &["name: db\nnamespace: shop\nimage: \"redis:7\"\n", "on-failure: roll-back"]);
        let scaled = converted("kubernetes/hpa.yaml");
        has(&scaled, &["name: web\nimage: \"nginx:1.27\"\nreplicas: 2\n", "min: 2", "max: 10"]);
        let site = converted("kubernetes/service.yaml");
        has(&site, &["replicas: 3\n", "zone", "source: site-greeting, env: GREETING"]);
    }
}
