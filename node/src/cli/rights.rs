//! Writing keys of desired state other than workloads.

use shoal_protocol::model::{Key, Value};

use super::client::Client;
use super::error::CliError;
use crate::api::form::{DraftBody, DraftedBody};
use crate::hex::to_hex;
use crate::publish::{Door, Operator, PublishError};

/// Tries of one write: each failure means that somebody else wrote the same key in between.
const TRIES: usize = 5;

/// Asks what to sign, signs, and submits. Returns whether the key had a value before.
pub(super) async fn submit(
    client: &Client,
    operator: &Operator,
    key: Key,
    value: Value,
) -> Result<bool, CliError> {
    let mut last = None;
    for _ in 0..TRIES {
        let body = DraftBody { key: to_hex(&key.encoded()) };
        let drafted: DraftedBody = client.post("/v1/draft", &body).await?;
        if drafted.cluster != operator.cluster() {
            let (operator, node) = (operator.cluster(), drafted.cluster);
            return Err(PublishError::OtherCluster { operator, node }.into());
        }
        let exists = drafted.exists;
        let draft = drafted
            .draft()
            .map_err(|error| CliError::failed(format!("the daemon's answer: {error}")))?;
        let change = operator
            .sign_value(key.clone(), value.clone(), draft)
            .map_err(PublishError::Signing)?;
        match client.submit(change).await {
            Ok(_) => return Ok(exists),
            Err(error) if error.code == "stale" => last = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.map_or_else(|| CliError::failed("others kept writing the same"), Into::into))
}
