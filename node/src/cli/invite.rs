//! `shoal invite`.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use shoal_protocol::model::{PublicKey, WallClock};

use super::context::Context;
use super::error::CliError;
use super::out;
use crate::api::form::MeetingBody;
use crate::manifest::quantity;
use crate::publish::container::pair;
use crate::publish::{self, Wishes};

/// Make a line with which devices join
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal invite                                   # one device, \
    within ten minutes\n  shoal invite --uses 20 --ttl 8h --label shop=12 # for a round\n  \
    shoal invite --qr                              # for a device with a camera\n  \
    shoal invite | ssh other-device shoal join -\n\n\
    Until it ends the line is a secret: whoever has it can have that many devices admitted, though \
    not tell them what to run. It takes an administrator's key."
)]
pub struct Invite {
    /// How long the line holds, at most 30 days
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = quantity::duration)]
    ttl: Duration,
    /// How many devices it admits
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,
    /// A label for the devices; may be given several times
    #[arg(long = "label", value_name = "K=V", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Where the devices find this cluster, in place of the node's own addresses: a name that is
    /// looked up at each try, or an address that leads here from outside; may be given several
    /// times
    #[arg(long = "address", value_name = "HOST:PORT")]
    addresses: Vec<String>,
    /// Name no address: devices look for members on the local network
    #[arg(long, conflicts_with = "addresses")]
    no_address: bool,
    /// Print a QR code as well
    #[arg(long)]
    qr: bool,
}

/// The invite, for programs.
#[derive(Serialize)]
struct InviteShown {
    line: String,
    /// The invite's key, with which it is revoked.
    id: String,
    uses: u32,
    ends: String,
}

impl Invite {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let mut meeting: MeetingBody = context.client().get("/v1/meeting").await?;
        let operator = context.operator()?;
        if self.no_address {
            (meeting.addresses, meeting.trouble) = (Vec::new(), None);
        }
        let ends = WallClock(
            meeting.now.saturating_add(u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX)),
        );
        let Invite { ttl, uses, labels, addresses, qr, .. } = self;
        let wishes = Wishes { uses, ttl, labels, addresses };
        let invite = publish::invite(&operator, meeting, wishes)
            .map_err(|error| CliError::usage(error.to_string()))?;
        let id: PublicKey = invite.keys().public();
        let line = invite.to_string();
        if context.json() {
            let (id, ends) = (id.to_string(), ends.to_string());
            return out::say_json(&InviteShown { line, id, uses, ends });
        }
        out::say(&line)?;
        if qr {
            out::say(&code(&line)?)?;
        }
        let devices = if uses == 1 { "one device".to_owned() } else { format!("{uses} devices") };
        context.note(&format!(
            "On the device: shoal join LINE. It admits {devices} until {ends}; to end it before: \
                shoal revoke {id}"
        ));
        Ok(())
    }
}

/// The line as a QR code of half blocks.
fn code(line: &str) -> Result<String, CliError> {
    let code = qrcode::QrCode::new(line.as_bytes()).map_err(|error| {
        CliError::failed(format!(
            "the line does not fit a QR code ({error}): leave out addresses with --address"
        ))
    })?;
    Ok(code.render::<qrcode::render::unicode::Dense1x2>().quiet_zone(true).build())
}
