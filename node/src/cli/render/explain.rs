//! `explain`: how a replica was placed.

use shoal_protocol::model::view::{AuctionView, DeclineView, ExplainView, ReplicaView};

use super::short;
use super::table::table;
use super::time::age;

/// The replica's current state, then its auctions, the latest first: every known one with `all`,
/// else three. `ended`: how it came to its end, if it did.
pub fn explain(view: &ExplainView, ended: Option<&str>, all: bool, now: u64) -> String {
    let mut text = String::new();
    for replica in &view.now {
        text.push_str(&place(replica, now));
    }
    let name = view.replica.rsplit_once('/').map_or(view.replica.as_str(), |(name, _)| name);
    match (ended, &view.unfit) {
        (Some(ended), _) => text.push_str(&format!("{name}/{ended}, and is not placed again\n")),
        (None, Some(unfit)) => text.push_str(&format!("{name} has no place there: {unfit}\n")),
        (None, None) if view.now.is_empty() => {
            text.push_str(&format!("{} is held by no node\n", view.replica));
        }
        (None, None) => {}
    }
    // Nobody is asked about a place that is no place.
    if view.auctions.is_empty() && view.unfit.is_some() {
        return text;
    }
    if view.auctions.is_empty() {
        text.push_str("\nNo auction for it is remembered by those who could be asked.\n");
    }
    let shown = if all { view.auctions.len() } else { 3 };
    for auction in view.auctions.iter().take(shown) {
        text.push('\n');
        text.push_str(&one(auction));
    }
    if view.auctions.len() > shown {
        text.push_str(&format!(
            "\n{} earlier ones are known: -o wide shows them.\n",
            view.auctions.len() - shown
        ));
    }
    text
}

fn place(view: &ReplicaView, now: u64) -> String {
    let mut text = format!("{} is {}", view.replica, view.phase);
    if let Some(node) = view.node_name.clone().or_else(|| view.node.as_deref().map(short)) {
        text.push_str(&format!(" on {node}"));
    }
    if let Some(since) = &view.since {
        text.push_str(&format!(" since {}", age(since, now)));
    }
    if let Some(token) = view.token {
        text.push_str(&format!(" under token {token}"));
    }
    if let Some(reason) = &view.reason {
        text.push_str(&format!(": {reason}"));
    }
    text.push('\n');
    text
}

/// The parts of a price.
const COLUMNS: [&str; 7] =
    ["BID BY", ">PRICE", ">SHARE", ">FETCH", ">SPREAD", ">PREFER", ">BALANCE"];

fn one(view: &AuctionView) -> String {
    let mut text = format!(
        "auction {} of {}, {}, took {:.1} ms\n",
        view.auction, view.owner, view.opened, view.took_ms
    );
    text.push_str(&format!("  because   {}\n", view.why));
    let token = view.token.map(|token| format!(" under token {token}")).unwrap_or_default();
    match &view.winner {
        Some(winner) => text.push_str(&format!("  winner    {winner}{token}: {}\n", view.outcome)),
        None => text.push_str(&format!("  no winner {}\n", view.outcome)),
    }
    if !view.bids.is_empty() {
        // Most workloads have no rules that make the last two.
        let is_ruled = view.bids.iter().any(|bid| bid.prefer > 0 || bid.balance > 0);
        let columns = if is_ruled { &COLUMNS[..] } else { &COLUMNS[..5] };
        let rows: Vec<Vec<String>> = view
            .bids
            .iter()
            .map(|bid| {
                let parts = [bid.price, bid.share, bid.fetch, bid.spread, bid.prefer, bid.balance];
                let shown = parts.iter().take(columns.len() - 1).map(u64::to_string);
                std::iter::once(bid.node.clone()).chain(shown).collect()
            })
            .collect();
        let bids = table(columns, &rows);
        bids.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    not(&mut text, "declined", &view.declines);
    not(&mut text, "not asked", &view.not_asked);
    text
}

fn not(text: &mut String, how: &str, views: &[DeclineView]) {
    for view in views {
        text.push_str(&format!("  {how:<9} {}: {}\n", view.node, view.reason));
    }
}
