//! `shoal revoke`.

use std::collections::BTreeSet;

use clap::Args;
use shoal_protocol::model::change::{self, MAX_STAYS, Revoked};
use shoal_protocol::model::view::{AdmissionView, NodeView, OperatorView, RevokedView};
use shoal_protocol::model::{Digest, Key, PublicKey, Value};
use shoal_protocol::trust;

use super::context::Context;
use super::error::CliError;
use super::render::short;
use super::rights::submit;
use super::terminal;
use crate::api::form::MeetingBody;
use crate::publish::Operator;

/// End the rights of a node, an operator or an invite, for ever
///
/// Every node that can be reached closes its links to the node within a second, and its work goes
/// elsewhere; a part of the cluster that is cut off learns of it at its first contact. What an
/// operator wrote before stays, and so do the devices that a node had let in, unless they are
/// withdrawn.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal revoke till-7 --why 'stolen in Lyon'\n  shoal revoke \
    ann                 # an operator\n  shoal revoke ann --withdraw      # and all that she ever \
    wrote or gave\n  shoal revoke 1a2b3c4d            # by key: an invite, for example\n\n\
    A revoked key is never trusted again: a device comes back with an empty state folder and a new \
    invite, an operator with a new key.")]
pub struct Revoke {
    /// A node or an operator by name, or a key by at least eight of its hexadecimal digits
    who: String,
    /// Also take back all that the key ever wrote, and every right that it gave
    #[arg(long)]
    withdraw: bool,
    /// The reason, for people: it is shown in events and to the node
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
    /// Do not ask, even if it is this operator's own key or the last administrator's
    #[arg(short, long)]
    yes: bool,
}

/// The key that was meant, and what it is.
struct Meant {
    key: PublicKey,
    what: String,
    is_node: bool,
}

impl Revoke {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        let meeting: MeetingBody = client.get("/v1/meeting").await?;
        let nodes: Vec<NodeView> = client.get("/v1/nodes").await?;
        let operators: Vec<OperatorView> = client.get("/v1/operators").await?;
        let operator = context.operator()?;
        let revoked: Vec<RevokedView> = client.get("/v1/revoked").await?;
        let meant = meant(&self.who, &nodes, &operators, &revoked)?;
        let let_in: Vec<AdmissionView> = match meant.is_node {
            true => client.get(&format!("/v1/admissions/{}", meant.key)).await?,
            false => Vec::new(),
        };
        if let Some(question) = question(&meant, &operator, &operators, &nodes)
            && !self.yes
            && !terminal::confirm(&question).unwrap_or(false)
        {
            return Err(CliError::usage(format!("{question} Nothing was changed; --yes does it")));
        }
        // Also what the key writes within the next moment, by a clock that is a little ahead.
        let last = trust::serial_at(shoal_protocol::model::WallClock(meeting.now));
        let stays = (meant.is_node && let_in.len() <= MAX_STAYS).then(|| names(&let_in));
        let revoked = Revoked { last, withdraw: self.withdraw, why: self.why, stays };
        let key = Key::Revocation(meant.key);
        submit(&client, &operator, key, Value::Revoked(revoked)).await?;
        context.note(&format!("{} ({}) is revoked", meant.what, meant.key.short()));
        if !let_in.is_empty() && !self.withdraw {
            let names: Vec<&str> = let_in.iter().map(|it| it.name.as_str()).collect();
            context.note(&format!(
                "it had let in {}, which stay: `--withdraw` takes them away as well",
                names.join(", ")
            ));
        }
        if let_in.len() > MAX_STAYS && !self.withdraw {
            context.note(&format!(
                "these are more than the {MAX_STAYS} that a revocation can name: whoever has its \
                    key could date further ones back, and `--withdraw` is what prevents it"
            ));
        }
        Ok(())
    }
}

/// The admissions that stay, as a revocation names them.
fn names(let_in: &[AdmissionView]) -> BTreeSet<[u8; 16]> {
    let hashes = let_in.iter().filter_map(|it| it.change.parse::<Digest>().ok());
    hashes.map(|hash| change::admission_name(&hash)).collect()
}

fn meant(
    who: &str,
    nodes: &[NodeView],
    operators: &[OperatorView],
    revoked: &[RevokedView],
) -> Result<Meant, CliError> {
    let mut found: Vec<Meant> = Vec::new();
    let is_key = |key: &str| who.len() >= 8 && key.starts_with(&who.to_lowercase());
    for node in nodes.iter().filter(|it| it.name == who || is_key(&it.id)) {
        let key = node.id.parse().map_err(|_| CliError::failed("a node has a strange id"))?;
        found.push(Meant { key, what: format!("node {}", node.name), is_node: true });
    }
    for it in operators.iter().filter(|it| it.name == who || is_key(&it.key)) {
        let key = it.key.parse().map_err(|_| CliError::failed("an operator has a strange key"))?;
        // One key may have several entries, by several administrators.
        if found.iter().all(|meant| meant.key != key) {
            found.push(Meant { key, what: format!("operator {}", it.name), is_node: false });
        }
    }
    // Once more, to withdraw what its key wrote.
    let is_it = |it: &&RevokedView| it.node.as_deref() == Some(who) || is_key(&it.key);
    for it in revoked.iter().filter(is_it) {
        let key = it.key.parse().map_err(|_| CliError::failed("a strange key was revoked"))?;
        if found.iter().all(|meant| meant.key != key) {
            let what = match &it.node {
                Some(name) => format!("node {name}"),
                None => format!("key {}", short(&it.key)),
            };
            found.push(Meant { key, what, is_node: it.node.is_some() });
        }
    }
    if let (true, Ok(key)) = (found.is_empty(), who.parse::<PublicKey>()) {
        found.push(Meant { key, what: format!("key {}", key.short()), is_node: false });
    }
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 => Err(CliError::not_found(format!(
            "there is no node and no operator `{who}`: `shoal nodes` and `shoal operator ls` list \
                them; what was revoked already is named by its key, an invite by its whole key (64 \
                digits, `shoal invite -o json`)"
        ))),
        _ => {
            let all: Vec<String> =
                found.iter().map(|it| format!("{} ({})", it.what, it.key.short())).collect();
            Err(CliError::usage(format!("`{who}` is {}: name its key", all.join(" and "))))
        }
    }
}

/// The question before a revocation that its author may regret.
fn question(
    meant: &Meant,
    operator: &Operator,
    operators: &[OperatorView],
    nodes: &[NodeView],
) -> Option<String> {
    if nodes.iter().any(|it| it.me && it.id == meant.key.to_string()) {
        return Some(format!(
            "{} is the one that you are asking: it takes no command any more after this.",
            meant.what
        ));
    }
    let admins = operators
        .iter()
        .filter(|it| it.role == "admin" && it.namespaces.is_empty() && it.revoked.is_none());
    let others = admins.filter(|it| it.key != meant.key.to_string()).count();
    if meant.key == operator.keys().public() {
        return Some(format!(
            "{} is your own key: after this you can change nothing any more.",
            meant.what
        ));
    }
    let is_admin = operators.iter().any(|it| it.key == meant.key.to_string() && it.role == "admin");
    (is_admin && others == 0)
        .then(|| format!("{} is the last administrator: then only the root key rules.", meant.what))
}
