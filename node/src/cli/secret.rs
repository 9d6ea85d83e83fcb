//! `shoal secret`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use shoal_protocol::model::change::Secret as Sealed;
use shoal_protocol::model::codec::Bytes;
use shoal_protocol::model::spec::ValueKind;
use shoal_protocol::model::view::ReadersView;
use shoal_protocol::model::{Digest, Key, NodeId, SealingKey, Value, WorkloadName};

use super::context::Context;
use super::error::CliError;
use super::rights::submit;
use super::values::{Ls, Rm, full, read_value};
use crate::secrets::seal::{DataKey, Of};

/// Bytes of a secret. A change has 48 KiB, and the rest is for the keys of its readers.
pub(super) const MAX_SECRET: usize = 16 * 1024;
/// Nodes to which one secret is sealed: at some 120 bytes each they fit a change beside the longest
/// value. Others get the key from those.
const MAX_READERS: usize = 200;

/// Keep passwords, keys and tokens: sealed to the nodes, given to workloads as files or variables
///
/// The value is encrypted by this command, to the members of the cluster. No disk and no log has it
/// in the clear, and nobody can read it back: set it again to change it. A new value replaces the
/// replicas of the workloads that use it.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    openssl rand -hex 32 | shoal secret set shop/session-key -\n  \
    shoal secret set db --from-file ./db.password\n  \
    shoal secret set db                          # asks for the value\n  \
    shoal run --name db --secret db:env=POSTGRES_PASSWORD postgres:17\n  \
    shoal run --name web --secret source=db,target=/run/secrets/pw,mode=0444 web.tar\n  \
    shoal secret ls\n  shoal secret rm shop/session-key")]
pub struct Secret {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Set(Set),
    Ls(Ls),
    Rm(Rm),
}

/// Set a secret, or change it: workloads that use it get the new value
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal secret set db --from-file ./db.password\n  \
    pass show shop/db | shoal secret set shop/db -\n  shoal secret set db\n\n\
    Bytes of a file or of standard input are kept as they are, a line feed at the end included; \
    what is typed at the question has none.")]
struct Set {
    /// NAME, or NAMESPACE/NAME
    name: WorkloadName,
    /// `-` reads the value from standard input. A value never stands on the command line, where
    /// every user of this computer could read it
    #[arg(value_name = "-")]
    from: Option<String>,
    /// Read the value from a file
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    from_file: Option<PathBuf>,
    /// Seal it to the nodes that hold a workload of it now, and to no others, ever: where they fail
    /// it is lost to the workload until it is set again
    #[arg(long)]
    holders_only: bool,
}

impl Secret {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.verb {
            Verb::Set(set) => set.run(context).await,
            Verb::Ls(ls) => ls.run(context, ValueKind::Secret).await,
            Verb::Rm(rm) => rm.run(context, ValueKind::Secret).await,
        }
    }
}

impl Set {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let operator = context.operator()?;
        let client = context.client();
        let path = format!("/v1/readers/{}", full(&self.name));
        let readers: ReadersView = client.get(&path).await?;
        let value = read_value(
            &format!("secret {}", self.name),
            self.from.as_deref(),
            self.from_file.as_deref(),
            MAX_SECRET,
        )?;
        let cluster = operator.cluster();
        let of = Of { cluster: &cluster, name: &self.name };
        let (sealed, count) = seal(of, &value, &readers, self.holders_only)?;
        let existed = submit(&client, &operator, Key::Secret(self.name.clone()), sealed).await?;
        let done = if existed { "has a new value" } else { "is set" };
        context.note(&format!("secret {} {done}, sealed to {count}", self.name));
        for note in notes(&readers, self.holders_only) {
            context.note(&note);
        }
        if existed && !readers.users.is_empty() {
            context.note(&format!("replaced with the new value: {}", readers.users.join(", ")));
        }
        Ok(())
    }
}

/// The secret as it travels, and to how many nodes it was sealed, in words.
pub(super) fn seal(
    of: Of<'_>,
    value: &[u8],
    readers: &ReadersView,
    holders_only: bool,
) -> Result<(Value, String), CliError> {
    let key = DataKey::draw().map_err(|error| CliError::failed(error.to_string()))?;
    let mut keys: BTreeMap<NodeId, Bytes> = BTreeMap::new();
    let wanted = readers.nodes.iter().filter(|it| it.holds || !holders_only);
    for reader in wanted.take(MAX_READERS) {
        let node: Option<Digest> = reader.id.parse().ok();
        let to = reader.key.as_deref().and_then(|key| key.parse::<Digest>().ok());
        let (Some(node), Some(to)) = (node, to) else { continue };
        if let Some(sealed) = key.seal(of, &SealingKey(to.0)) {
            keys.insert(NodeId(node.0), Bytes(sealed));
        }
    }
    if keys.is_empty() {
        let name = of.name;
        return Err(match holders_only {
            true => CliError::usage(format!(
                "no node holds a workload that uses secret {name}: with --holders-only nobody \
                 could read it; nothing was changed"
            ))
            .hint("Run the workload first: it waits for the secret. Or leave --holders-only away."),
            false => CliError::failed(
                "no member of the cluster can read secrets yet; nothing was changed",
            )
            .hint("Nodes tell their sealing keys in a moment after their start: try again."),
        });
    }
    let count = match keys.len() {
        1 => "1 node".to_owned(),
        count => format!("{count} nodes"),
    };
    let sealed = Bytes(key.encrypt(of, value));
    Ok((Value::Secret(Sealed { sealed, keys, holders_only }), count))
}

/// Notes for the author about nodes that were left out.
fn notes(readers: &ReadersView, holders_only: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if !readers.without.is_empty() {
        notes.push(format!(
            "note: {} cannot read secrets: update shoal there",
            readers.without.join(", ")
        ));
    }
    if !holders_only && readers.nodes.len() > MAX_READERS {
        notes.push(format!(
            "note: it is sealed to {MAX_READERS} of {} nodes; the others ask one of those for it \
             when they run a workload that uses it",
            readers.nodes.len()
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use shoal_protocol::model::ClusterId;
    use shoal_protocol::model::view::ReaderView;

    use super::*;
    use crate::secrets::seal::Opener;

    const CLUSTER: ClusterId = ClusterId([9; 32]);

    fn reader(seed: u8, holds: bool) -> ReaderView {
        let key = Opener::of(&[seed; 32]).public();
        ReaderView {
            id: NodeId([seed; 32]).to_string(),
            name: format!("n{seed}"),
            key: Some(Digest(key.0).to_string()),
            holds,
        }
    }

    fn sealed(readers: &ReadersView, holders_only: bool) -> Sealed {
        let name = "db".parse().unwrap();
        let of = Of { cluster: &CLUSTER, name: &name };
        match seal(of, b"hunter2", readers, holders_only).unwrap().0 {
            Value::Secret(secret) => secret,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_reader_opens_it_and_holders_alone_if_asked() {
        let nodes = vec![reader(1, true), reader(2, false)];
        let readers = ReadersView { nodes, ..ReadersView::default() };
        let name: WorkloadName = "db".parse().unwrap();
        let of = Of { cluster: &CLUSTER, name: &name };
        let secret = sealed(&readers, false);
        for seed in [1, 2] {
            let key = Opener::of(&[seed; 32]).open(of, &secret.keys[&NodeId([seed; 32])].0);
            assert_eq!(key.unwrap().decrypt(of, &secret.sealed.0).unwrap(), b"hunter2");
        }
        let only = sealed(&readers, true);
        assert_eq!(only.keys.keys().collect::<Vec<_>>(), [&NodeId([1; 32])]);
    }

    /// The longest value for as many nodes as are sealed to must be a change that nodes accept.
    #[test]
    fn longest_secret_for_most_readers_fits_a_change() {
        let nodes = (0..=u8::MAX).map(|seed| reader(seed, false)).collect();
        let readers = ReadersView { nodes, ..ReadersView::default() };
        let name = "db".parse().unwrap();
        let of = Of { cluster: &CLUSTER, name: &name };
        let (value, _) = seal(of, &[7; MAX_SECRET], &readers, false).unwrap();
        let Value::Secret(secret) = value else { panic!() };
        assert_eq!(secret.keys.len(), MAX_READERS);
        // A full clock has 3 KiB, the rest of a change's head far less than one.
        let bytes = shoal_protocol::model::codec::encode(&secret).len() + 4 * 1024;
        assert!(bytes <= shoal_protocol::trust::MAX_CHANGE, "{bytes}");
        assert!(notes(&readers, false)[0].contains("200 of 256"));
    }

    #[test]
    fn secret_for_nobody_is_refused() {
        let name = "db".parse().unwrap();
        let of = Of { cluster: &CLUSTER, name: &name };
        let readers = ReadersView { nodes: vec![reader(1, false)], ..ReadersView::default() };
        let error = seal(of, b"x", &readers, true).unwrap_err();
        assert!(error.message.contains("--holders-only"), "{}", error.message);
    }
}
