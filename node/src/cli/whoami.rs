//! `shoal whoami`.

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::out;

/// Say whose key this is, what it may do, and of which cluster; elsewhere also whether it still may
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal whoami\n  shoal --via gate.example:7700 whoami   # asks that \
    node\n  shoal --key root.json whoami"
)]
pub struct Whoami {}

#[derive(Serialize)]
struct Me {
    name: String,
    key: String,
    role: String,
    namespaces: String,
    until: Option<String>,
    cluster: String,
    context: Option<String>,
    via: Vec<String>,
    /// The node that answered and took the key.
    node: Option<String>,
}

impl Whoami {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let operator = context.operator()?;
        let right = operator.authority().map_err(|error| CliError::failed(error.to_string()))?;
        let remote = context.remote.clone();
        let mut me = Me {
            name: operator.name().to_owned(),
            key: operator.keys().public().to_string(),
            role: right.role.name().to_owned(),
            namespaces: right.namespaces.to_string(),
            until: right.expires.map(|it| it.to_string()),
            cluster: operator.cluster().to_string(),
            context: remote.as_ref().and_then(|it| it.context.clone()),
            via: remote.map(|it| it.addresses).unwrap_or_default(),
            node: None,
        };
        let asked = match &context.via {
            Some(via) => via.answered().await.map(Some),
            None => Ok(None),
        };
        if let Ok(Some(answered)) = &asked {
            me.node = Some(format!("{} at {}", answered.name, answered.address));
        }
        match context.json() {
            true => out::say_json(&me)?,
            false => out::say(&me.text())?,
        }
        // Printed also when no node takes the key: it says this of itself.
        Ok(asked.map(drop)?)
    }
}

impl Me {
    fn text(&self) -> String {
        let until =
            self.until.as_ref().map_or_else(|| "for ever".to_owned(), |it| format!("until {it}"));
        let mut text = format!(
            "{}: {} in {}, {until}\nkey {}\ncluster {}",
            self.name, self.role, self.namespaces, self.key, self.cluster
        );
        if let Some(context) = &self.context {
            text.push_str(&format!("\ncontext {context}"));
        }
        if !self.via.is_empty() {
            text.push_str(&format!("\nvia {}", self.via.join(", ")));
        }
        if let Some(node) = &self.node {
            text.push_str(&format!("\nnode {node} takes the key"));
        }
        text
    }
}
