//! Secrets and configs: what there is, and the keys that nodes pass on to one another.

use http::StatusCode;
use shoal_protocol::model::view::{ReadersView, ValueView};
use shoal_protocol::model::{Digest, Key, NodeId, Value, WorkloadName};

use super::{ApiError, Service};
use crate::secrets::{KeyBody, KeyQuery};

/// The node that sent a request over the mesh, as the stream's handshake proved it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asker(pub NodeId);

impl Service {
    /// All secrets and configs, without their contents.
    pub async fn values(&self) -> Result<Vec<ValueView>, ApiError> {
        Ok(self.core.values().await?)
    }

    /// The members to which a secret of this name can be sealed.
    pub async fn readers(&self, name: WorkloadName) -> Result<ReadersView, ApiError> {
        Ok(self.core.readers(name).await?)
    }

    /// The bytes of a config.
    pub async fn config(&self, name: WorkloadName) -> Result<Vec<u8>, ApiError> {
        match self.core.value(Key::Config(name.clone())).await? {
            Some((_, Value::Config(bytes))) => Ok(bytes.0),
            _ => {
                let message = format!("there is no config `{name}`");
                Err(ApiError::new(StatusCode::NOT_FOUND, "no-such-config", message)
                    .hint("`shoal config ls` lists them."))
            }
        }
    }

    /// The key of a secret, sealed to the node that asks.
    pub(super) async fn secret_key(
        &self,
        name: WorkloadName,
        version: Digest,
        asker: Option<Asker>,
    ) -> Result<KeyBody, ApiError> {
        let refused = |why: String| ApiError::new(StatusCode::FORBIDDEN, "not-for-you", why);
        let (Some(secrets), Some(Asker(asker))) = (&self.secrets, asker) else {
            return Err(refused("this node passes no secrets on".into()));
        };
        let passed = secrets.pass_on(&KeyQuery { name, version }, asker).await?;
        passed.map_err(refused)
    }
}
