//! Dials: the addresses that lead to a peer, and the verdict when none does.

use super::*;

/// The peer has a second address that never answers, as behind a firewall: its time-out delayed the
/// refusal at the proven address by two seconds.
#[tokio::test]
async fn silent_address_does_not_delay_a_proven_refusal() {
    let (mut a, b) = linked(1, 2).await;
    let (id, address) = (b.id, b.address());
    drop(b);
    assert!(matches!(a.urgent().await, Input::LinkDown { peer } if peer == id));
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let black_hole = names::multiaddr(&silent.local_addr().unwrap()).to_string();
    assert!(a.network.dial(DialTarget::Node(id), vec![black_hole, address.clone()]));
    assert_eq!(a.answered().await, (address, Answerer::Nobody));
    assert_eq!(a.dial_failed().await, DialFailure::Refused);
    // The other address is dialled all the same, and that dial goes on.
    let (mut stream, _) = within("the second address' dial", silent.accept()).await.unwrap();
    let mut greeting = [0; 256];
    assert!(within("a greeting", stream.read(&mut greeting)).await.unwrap() > 0);
    assert!(!matches!(stream.try_read(&mut greeting), Ok(0)), "it has ended");
}

/// The proven address is silent, another one refuses. The core gets that refusal, but it does not
/// count as the verdict.
#[tokio::test]
async fn refusal_does_not_count_while_the_proven_is_silent() {
    let (mut a, b) = linked(1, 2).await;
    let (id, listening) = (b.id, b.network.listening());
    drop(b);
    assert!(matches!(a.urgent().await, Input::LinkDown { peer } if peer == id));
    // Another process takes its port and stays silent.
    let silent = within("its port", async {
        loop {
            match tokio::net::TcpListener::bind(listening).await {
                Ok(silent) => break silent,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    let address = names::multiaddr(&silent.local_addr().unwrap()).to_string();
    assert!(a.network.dial(DialTarget::Node(id), vec![DEAD.into(), address]));
    assert_eq!(a.answered().await, (DEAD.into(), Answerer::Nobody));
    assert_eq!(a.dial_failed().await, DialFailure::TimedOut);
}

/// A dial that lost the race must not make a second connection at the peer.
#[tokio::test]
async fn dials_that_lost_the_race_are_cancelled() {
    let (mut a, b) = (peer(1).await, peer(2).await);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let black_hole = names::multiaddr(&silent.local_addr().unwrap()).to_string();
    assert!(a.network.dial(DialTarget::Node(b.id), vec![black_hole, b.address()]));
    let (mut stream, _) = within("the first address' dial", silent.accept()).await.unwrap();
    assert_eq!(a.link_up().await, b.id);
    let mut all = Vec::new();
    within("its end", stream.read_to_end(&mut all)).await.unwrap();
    // The end of the lost dial is not reported: the next input answers the next dial.
    assert!(a.network.dial(DialTarget::Address("kitchen".into()), vec!["kitchen".into()]));
    assert!(matches!(a.dial_failed().await, DialFailure::Stranger(_)));
}

/// Other nodes answer at all addresses but one. The node is found at that one; if it is found at
/// none, the others are reported.
#[tokio::test]
async fn node_is_found_though_others_answer_at_its_addresses() {
    let (mut a, b, mut c) = (peer(1).await, peer(2).await, peer(3).await);
    let all = vec![b.address(), a.address(), c.address()];
    assert!(a.network.dial(DialTarget::Node(c.id), all.clone()));
    assert_eq!((a.link_up().await, c.link_up().await), (c.id, a.id));
    // No node has the key 4. Other nodes at its addresses show that these are old, so a refusal at
    // one proves nothing.
    assert!(a.network.dial(DialTarget::Node(id(4)), all.clone()));
    assert_eq!(a.answered().await, (b.address(), Answerer::Node(b.id)));
    assert_eq!(a.answered().await, (c.address(), Answerer::Node(c.id)));
    assert!(matches!(a.dial_failed().await, DialFailure::Stranger(_)));
    let mut with_dead = all;
    with_dead.push(DEAD.into());
    assert!(a.network.dial(DialTarget::Node(id(4)), with_dead));
    assert!(matches!(a.dial_failed().await, DialFailure::Stranger(_)));
    assert!(a.network.dial(DialTarget::Node(id(4)), vec![DEAD.into()]));
    assert_eq!(a.dial_failed().await, DialFailure::Refused);
}

/// A web server answers, a process stays silent, a name is no address: the failure differs for
/// each.
#[tokio::test]
async fn other_program_differs_from_a_silent_address() {
    let mut a = peer(1).await;
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap().to_string();
    assert!(a.network.dial(DialTarget::Address(address.clone()), vec![address.clone()]));
    let (mut stream, _) = other.accept().await.unwrap();
    let page =
        format!("HTTP/1.1 400 Bad Request\r\nContent-Length: 200\r\n\r\n{}", "x".repeat(200));
    stream.write_all(page.as_bytes()).await.unwrap();
    let how = a.dial_failed().await;
    assert!(matches!(&how, DialFailure::Stranger(why) if why.contains("not shoal")), "{how:?}");
    // A process that accepts the connection and stays silent looks like a network cut.
    assert!(a.network.dial(DialTarget::Address(address.clone()), vec![address]));
    assert_eq!(a.dial_failed().await, DialFailure::TimedOut);
    assert!(a.network.dial(DialTarget::Address("kitchen".into()), vec!["kitchen".into()]));
    let how = a.dial_failed().await;
    assert!(matches!(&how, DialFailure::Stranger(why) if why.contains("kitchen")), "{how:?}");
}
