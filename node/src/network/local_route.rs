//! Addresses that the device takes for its own without an interface that has them, so that no other
//! node is told of them.

use std::net::Ipv4Addr;

use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};

/// The kernel's table of the device's own addresses.
const LOCAL: u32 = 255;
/// The index of the loopback interface.
const LOOPBACK: u32 = 1;

/// Makes `address` one of the device's own, or no longer. Takes root.
///
/// # Errors
/// The kernel's reason.
pub async fn local_route(address: Ipv4Addr, is_own: bool) -> Result<(), String> {
    let (connection, handle, _unasked) =
        rtnetlink::new_connection().map_err(|error| error.to_string())?;
    let change = async {
        let message = message(address);
        match is_own {
            true => handle.route().add(message).replace().execute().await,
            false => handle.route().del(message).execute().await,
        }
    };
    tokio::select! {
        changed = change => changed.map_err(|error| error.to_string()),
        () = connection => Err("the kernel closed the connection".into()),
    }
}

fn message(address: Ipv4Addr) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(address, 32)
        .table_id(LOCAL)
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
        .output_interface(LOOPBACK)
        .build()
}
