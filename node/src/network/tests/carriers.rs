//! Artifacts and HTTP travel on connections of their own.

use super::*;

const STALL_REASON: &str = "small messages pass, transfers stall";

/// A stream from `from` to `to`, and its other end.
async fn stream(
    from: &Peer,
    to: &Peer,
    acceptor: &mut Acceptor,
    purpose: Purpose,
) -> (MeshStream, MeshStream) {
    let mut mine = from.network.open(to.id, purpose).await.unwrap();
    // A stream arrives once something was written.
    mine.flush().await.unwrap();
    (mine, within("the stream", acceptor.next()).await.unwrap().stream)
}

async fn path_changed(peer: &mut Peer) -> (NodeId, bool) {
    match peer.urgent().await {
        Input::PathChanged { peer, is_stalling } => (peer, is_stalling),
        other => panic!("a changed path was expected, not {other:?}"),
    }
}

/// Writes until the stream ends, and returns why it did.
async fn filled(mut stream: MeshStream) -> std::io::Error {
    loop {
        if let Err(error) = stream.write_all(&[7; 65_536]).await {
            return error;
        }
    }
}

/// A transfer shared the link's connection, and one lost packet of it blocked all messages.
#[tokio::test]
async fn streams_both_ways_share_one_carrier_beside_the_link() {
    let (mut a, mut b) = linked(1, 2).await;
    let (mut at_a, mut at_b) =
        (a.network.accept(Purpose::Http).await, b.network.accept(Purpose::Artifact).await);
    let _there = stream(&a, &b, &mut at_b, Purpose::Artifact).await;
    let _back = stream(&b, &a, &mut at_a, Purpose::Http).await;
    assert_eq!((a.count("net_carriers_up"), b.count("net_carriers_up")), (1, 1));
    assert_eq!((a.count("net_links_up"), a.network.carriers.full_sized(&b.id)), (1, vec![true]));
    // The swarm counts it neither as a refused connection nor as another link.
    assert_eq!((b.count("net_connections_refused"), b.count("net_links_up")), (0, 1));
    // The transfer is not read: the link works all the same.
    let (mut full, _unread) = stream(&a, &b, &mut at_b, Purpose::Artifact).await;
    let stuck = tokio::spawn(async move { full.write_all(&vec![0; 8 << 20]).await });
    for number in 0..20 {
        a.network.send(&b.id, Lane::Urgent, &numbered(number));
        assert_eq!(b.received().await, (a.id, numbered(number)));
    }
    assert!(!stuck.is_finished());
    stuck.abort();
    assert!(a.inbox.urgent.try_recv().is_err(), "the path is good");
}

/// On a path that loses full-sized packets, a change of 64 KiB blocked every probe behind it.
#[tokio::test]
async fn links_use_small_packets() {
    let a = peer(1).await;
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap().to_string();
    assert!(a.network.dial(DialTarget::Address(address.clone()), vec![address]));
    let (dialled, _) = within("the dial", other.accept()).await.unwrap();
    let segment = socket2::SockRef::from(&dialled).tcp_mss().unwrap();
    assert!(segment <= 536, "{segment} bytes in a packet, to the dialler");
    let (full, _) =
        tokio::join!(tokio::net::TcpStream::connect(other.local_addr().unwrap()), other.accept());
    assert!(
        socket2::SockRef::from(&full.unwrap()).tcp_mss().unwrap() > 536,
        "others have larger ones here"
    );
}

/// Bytes that `a` sends do not arrive, though the link is up: both cores are told, both ends of the
/// stream end, and the next transfer uses packets that every path carries.
#[tokio::test]
async fn stalled_path_is_reported_by_both_ends_then_small() {
    let (mut a, mut b) = linked(1, 2).await;
    let mut acceptor = b.network.accept(Purpose::Artifact).await;
    let (mine, mut theirs) = stream(&a, &b, &mut acceptor, Purpose::Artifact).await;
    a.network.carriers.pretend_stuck(&b.id);
    let sending = tokio::spawn(filled(mine));
    let reading = tokio::spawn(async move {
        let mut chunk = vec![0; 65_536];
        loop {
            match theirs.read(&mut chunk).await {
                Ok(0) => panic!("an end without a reason"),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    });
    assert_eq!(path_changed(&mut a).await, (b.id, true));
    assert_eq!(path_changed(&mut b).await, (a.id, true));
    let (sent, read) =
        (within("an end", sending).await.unwrap(), within("an end", reading).await.unwrap());
    assert!(sent.to_string().contains(STALL_REASON), "{sent}");
    assert!(read.to_string().contains(STALL_REASON), "{read}");
    assert_eq!(a.count("net_carriers_stalled"), 1);
    for (from, to) in [(&a, &b), (&b, &a)] {
        let mut acceptor = to.network.accept(Purpose::Artifact).await;
        let _next = stream(from, to, &mut acceptor, Purpose::Artifact).await;
        within("small packets", async {
            while from.network.carriers.full_sized(&to.id) != [false] {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
    // The link stayed up.
    a.network.send(&b.id, Lane::Urgent, &numbered(1));
    assert_eq!(b.received().await, (a.id, numbered(1)));
    assert_eq!((a.count("net_links_up"), b.count("net_links_up")), (1, 1));
}

/// A node behind a router without inbound connections has dialled: there is a link, and no address
/// that could be dialled back.
#[tokio::test]
async fn link_carries_streams_without_a_carrier() {
    // `a` dialled, so `b` knows no address of it.
    let (a, b) = linked(1, 2).await;
    let mut acceptor = a.network.accept(Purpose::Artifact).await;
    let (mut mine, mut theirs) = stream(&b, &a, &mut acceptor, Purpose::Artifact).await;
    mine.write_all(b"which?").await.unwrap();
    mine.shutdown().await.unwrap();
    let mut asked = String::new();
    within("the question", theirs.read_to_string(&mut asked)).await.unwrap();
    assert_eq!(
        (asked.as_str(), b.count("net_carriers_up"), a.count("net_carriers_up")),
        ("which?", 0, 0)
    );
}

/// A carrier costs memory, so it ends a while after its last stream.
#[tokio::test]
async fn idle_carrier_is_closed() {
    let limits =
        CarrierLimits { idle_after: Duration::from_millis(300), ..config(1, PROLOGUE).carriers };
    let peer = async |seed| {
        let (network, inbox) =
            start(NetworkConfig { carriers: limits, ..config(seed, PROLOGUE) }).await.unwrap();
        network.set_roster(everybody());
        Peer { id: id(seed), network, inbox }
    };
    let (mut a, mut b) = (peer(1).await, peer(2).await);
    a.dial(&b);
    assert_eq!((a.link_up().await, b.link_up().await), (b.id, a.id));
    let mut acceptor = b.network.accept(Purpose::Artifact).await;
    let streams = stream(&a, &b, &mut acceptor, Purpose::Artifact).await;
    assert_eq!(a.network.carriers.full_sized(&b.id).len(), 1);
    drop(streams);
    within("no carrier", async {
        while a.network.carriers.full_sized(&b.id).len()
            + b.network.carriers.full_sized(&a.id).len()
            > 0
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // The next stream makes another.
    let _streams = stream(&a, &b, &mut acceptor, Purpose::Artifact).await;
    assert_eq!((a.count("net_carriers_up"), a.count("net_links_up")), (2, 1));
}

/// A stranger sends a carrier's preamble, or bytes that only begin like one.
#[tokio::test]
async fn a_carrier_of_a_stranger_is_refused() {
    let b = peer(2).await;
    for said in [*b"\0carrier1nonsense", *b"\0carrier9nonsense"] {
        let before = b.count("net_connections_refused");
        let mut stranger = tokio::net::TcpStream::connect(b.network.listening()).await.unwrap();
        stranger.write_all(&said).await.unwrap();
        stranger.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _ = within("the end", stranger.read_to_end(&mut answer)).await;
        within("the count", async {
            while b.count("net_connections_refused") == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}
