//! Dials: which addresses lead to a peer, and what is concluded when none does.

use super::*;

/// The peer has a second address from which nothing comes back, as one behind a firewall: its
/// time-out hid the refusal of the address that worked for two seconds.
#[tokio::test]
async fn silent_address_does_not_delay_the_refusal_of_the_proven() {
    let (mut a, b) = linked(1, 2).await;
    let (id, address) = (b.id, b.address());
    drop(b);
    assert!(matches!(a.urgent().await, Input::LinkDown { peer } if peer == id));
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let black_hole = names::multiaddr(&silent.local_addr().unwrap()).to_string();
    assert!(a.network.dial(DialTarget::Node(id), vec![black_hole, address.clone()]));
    assert_eq!(a.answered().await, (address, Answerer::Nobody));
    assert_eq!(a.dial_failed().await, DialFailure::Refused);
    // The other address is tried all the same, and that dial goes on: it has not run into its
    // time-out.
    let (mut stream, _) = within("the second address' dial", silent.accept()).await.unwrap();
    let mut greeting = [0; 256];
    assert!(within("a greeting", stream.read(&mut greeting)).await.unwrap() > 0);
    assert!(!matches!(stream.try_read(&mut greeting), Ok(0)), "it has ended");
}

/// The refusal of an address that was never seen to be the peer's is not hidden either, nor taken
/// for more than it is.
#[tokio::test]
async fn where_the_proven_address_is_silent_a_refusal_proves_nothing() {
    let (mut a, b) = linked(1, 2).await;
    let (id, listening) = (b.id, b.network.listening());
    drop(b);
    assert!(matches!(a.urgent().await, Input::LinkDown { peer } if peer == id));
    // Somebody takes its port and never says a word.
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

/// A dial that lost makes no second connection at the peer.
#[tokio::test]
async fn dials_that_lost_are_given_up() {
    let (mut a, b) = (peer(1).await, peer(2).await);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let black_hole = names::multiaddr(&silent.local_addr().unwrap()).to_string();
    assert!(a.network.dial(DialTarget::Node(b.id), vec![black_hole, b.address()]));
    let (mut stream, _) = within("the first address' dial", silent.accept()).await.unwrap();
    assert_eq!(a.link_up().await, b.id);
    let mut all = Vec::new();
    within("its end", stream.read_to_end(&mut all)).await.unwrap();
    // Nobody hears of its end: what is next is what is asked next.
    assert!(a.network.dial(DialTarget::Address("kitchen".into()), vec!["kitchen".into()]));
    assert!(matches!(a.dial_failed().await, DialFailure::Stranger(_)));
}

#[tokio::test]
async fn at_one_of_its_addresses_a_node_is_found_though_others_answer_at_the_rest() {
    let (mut a, b, mut c) = (peer(1).await, peer(2).await, peer(3).await);
    let all = vec![b.address(), a.address(), c.address()];
    assert!(a.network.dial(DialTarget::Node(c.id), all.clone()));
    assert_eq!((a.link_up().await, c.link_up().await), (c.id, a.id));
    // Nobody has the key 4. Others at its addresses show that these are old: that one refuses
    // proves nothing.
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

#[tokio::test]
async fn what_is_not_shoal_is_told_from_a_dead_end() {
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
    // Takes the connection and never says a word: as a cut looks.
    assert!(a.network.dial(DialTarget::Address(address.clone()), vec![address]));
    assert_eq!(a.dial_failed().await, DialFailure::TimedOut);
    assert!(a.network.dial(DialTarget::Address("kitchen".into()), vec!["kitchen".into()]));
    let how = a.dial_failed().await;
    assert!(matches!(&how, DialFailure::Stranger(why) if why.contains("kitchen")), "{how:?}");
}
