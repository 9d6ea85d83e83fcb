//! The way to a node over the mesh's port, with the operator's key: `--via`.

use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use shoal_protocol::model::{Key, NodeId, RawChange, codec};
use shoal_protocol::trust::{self, Genesis};

use super::error::{CliError, NO_DAEMON};
use super::keys::Keys;
use crate::api::ApiError;
use crate::api::form::Hello;
use crate::hex::from_hex;
use crate::identity::prologue;
use crate::network::{Line, MeshStream, NoVisit, Opener, dial};
use crate::publish::Operator;

/// The port where nodes listen unless they are told otherwise.
const DEFAULT_PORT: u16 = 7700;
/// Addresses that are tried in turn.
const MAX_ADDRESSES: usize = 16;
/// Bytes of a node's answer: its admission with the grants behind it.
const MAX_HELLO: usize = 256 * 1024;

/// The node that answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    /// Its name.
    pub name: String,
    /// Its key.
    pub node: NodeId,
    /// The address at which it answered.
    pub address: String,
}

/// The way to the first of some addresses that answers. A connection is made when it is needed, and
/// made again when it has ended.
pub struct Via {
    addresses: Vec<String>,
    keys: Keys,
    /// Locked for a look, never across an await.
    connected: Mutex<Option<(Answered, Opener)>>,
}

impl Via {
    /// A way to these addresses, with this key.
    pub fn new(addresses: Vec<String>, keys: Keys) -> Via {
        Via { addresses, keys, connected: Mutex::default() }
    }

    /// The addresses, for people.
    pub fn place(&self) -> String {
        match &*self.connected.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((answered, _)) => format!("{} ({})", answered.name, answered.address),
            None => self.addresses.join(", "),
        }
    }

    /// A stream to the API.
    pub async fn open(&self) -> Result<MeshStream, ApiError> {
        let before = self.connected.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, opener)) = before
            && let Some(stream) = opener.open().await
        {
            return Ok(stream);
        }
        let (answered, opener) = self.connect().await?;
        *self.connected.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((answered, opener.clone()));
        opener.open().await.ok_or_else(|| {
            unreachable(format!("{} went away at once", self.place())).hint("Try again.")
        })
    }

    /// The node that answers.
    pub async fn answered(&self) -> Result<Answered, ApiError> {
        drop(self.open().await?);
        let connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = connected.as_ref().map(|(answered, _)| answered.clone());
        answered.ok_or_else(|| unreachable("no node answers".into()))
    }

    async fn connect(&self) -> Result<(Answered, Opener), ApiError> {
        let operator = self.keys.operator().map_err(|error| {
            let hint = error.hint();
            let error = ApiError::new(StatusCode::UNAUTHORIZED, "no-operator", error.to_string());
            ApiError { hint, ..error }
        })?;
        let genesis = operator.genesis();
        let mut failures = Vec::new();
        for address in &self.addresses {
            let dialled = dial(address, operator.seed(), &prologue(&genesis)).await;
            match dialled {
                Ok(line) => match greet(line, &operator).await? {
                    Ok(connected) => return Ok(connected),
                    Err(why) => failures.push(why),
                },
                Err(why) => failures.push(describe(&why, &operator)),
            }
        }
        Err(unreachable(failures.join("; ")).hint(
            "An address is that of any node's mesh, as `shoal nodes -o wide` and the first line of \
                `shoal up` show it. Is a firewall in between?",
        ))
    }
}

fn describe(why: &NoVisit, operator: &Operator) -> String {
    match why {
        NoVisit::Stranger { .. } => {
            format!("{why}; the key is of cluster {}", operator.cluster().short())
        }
        why => why.to_string(),
    }
}

/// Shows the grants, and looks whether the other end is a member. The outer error is the node's
/// refusal; after the inner one another address may do.
async fn greet(
    mut line: Line,
    operator: &Operator,
) -> Result<Result<(Answered, Opener), String>, ApiError> {
    let address = line.address.to_string();
    let answer = line.ask(&codec::encode(operator.chain()), MAX_HELLO).await;
    let hello = match answer.map(|bytes| serde_json::from_slice::<Hello>(&bytes)) {
        Ok(Ok(hello)) => hello,
        Ok(Err(error)) => {
            return Ok(Err(format!(
                "{address} answers something else than was asked ({error}): is it another version?"
            )));
        }
        Err(error) => return Ok(Err(format!("{address} hung up: {error}"))),
    };
    let (name, admission) = match hello {
        Hello::Welcome { name, admission } => (name, admission),
        Hello::Refused { status, body } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
            return Err(ApiError::from_body(status, body));
        }
    };
    if !is_member(&operator.genesis(), &line.node, &admission) {
        return Ok(Err(format!(
            "what answers at {address} does not prove that it is a member of the cluster"
        )));
    }
    let node = line.node;
    match line.opener().await {
        Ok(opener) => Ok(Ok((Answered { name, node, address }, opener))),
        Err(error) => Ok(Err(format!("{address} hung up: {error}"))),
    }
}

/// Whether the change admits the node, by a chain that begins at the cluster's root: whoever knows
/// the cluster's id could answer at an address.
fn is_member(genesis: &Genesis, node: &NodeId, admission: &str) -> bool {
    let raw = from_hex(admission).and_then(|bytes| codec::decode::<RawChange>(&bytes).ok());
    let admitted = raw.and_then(|raw| trust::accept(genesis, raw).ok());
    admitted.is_some_and(|change| change.signed.key == Key::Member(*node))
}

fn unreachable(message: String) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, NO_DAEMON, message)
}

/// Parses `ADDR[,ADDR]`, each `HOST:PORT`, `[v6]:PORT`, or without a port.
pub fn addresses(text: &str) -> Result<Vec<String>, CliError> {
    let all = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    let all = all.map(address).collect::<Result<Vec<_>, _>>()?;
    match all.len() {
        0 => Err(CliError::usage("there is no address: HOST:PORT of a node's mesh is expected")),
        1..=MAX_ADDRESSES => Ok(all),
        many => Err(CliError::usage(format!(
            "there are {many} addresses, at most {MAX_ADDRESSES} are tried"
        ))),
    }
}

fn address(text: &str) -> Result<String, CliError> {
    let bad = |why: &str| CliError::usage(format!("`{text}` is no address of a node: {why}"));
    let (host, port) = match text.rsplit_once(':') {
        _ if text.ends_with(']') || !text.contains(':') => (text, None),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let is_v6 = host.starts_with('[') && host.ends_with(']');
    if host.contains(':') && !is_v6 {
        return Err(bad("an IPv6 address stands in brackets, as in [fd00::5]:7700"));
    }
    if host.is_empty() || host.contains(['/', '@', ' ']) {
        return Err(bad("HOST:PORT or [v6]:PORT is expected"));
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port
            .parse::<u16>()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| bad("the port is a number from 1 to 65535"))?,
    };
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_is_dialled() {
        assert_eq!(
            addresses("10.0.0.5:7700, gate.example ,[fd00::5]:77").unwrap(),
            ["10.0.0.5:7700", "gate.example:7700", "[fd00::5]:77"]
        );
        for bad in ["", ",", "fd00::5", "host:0", "host:http", "http://x:1", ":7700", "a b:1"] {
            assert_eq!(addresses(bad).unwrap_err().exit, crate::cli::Exit::Usage, "{bad}");
        }
    }
}
