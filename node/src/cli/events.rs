//! `shoal events`.

use clap::Args;
use shoal_protocol::model::view::EventView;

use super::context::Context;
use super::error::CliError;
use super::{out, render};

/// Show what happened at this node, the oldest first
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal events\n  shoal events -f           # and what happens from \
        now on\n  shoal events -o json | jq 'select(.level==\"warning\")'"
)]
pub struct Events {
    /// Go on with what happens from now on
    #[arg(short, long)]
    follow: bool,
}

impl Events {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let mut lines =
            context.client().lines(&format!("/v1/events?follow={}", self.follow)).await?;
        let mut gone = std::pin::pin!(out::reader_gone());
        loop {
            let line = tokio::select! {
                line = lines.next_line() => line?,
                () = &mut gone, if self.follow => None,
            };
            let Some(line) = line else { return Ok(()) };
            if context.json() {
                out::say_raw(&String::from_utf8_lossy(&line))?;
            } else {
                out::say(&render::event(&out::parse::<EventView>(&line)?))?;
            }
        }
    }
}
