use shoal_protocol::model::spec::NO_CPU_LIMIT;
use shoal_protocol::model::view::{
    AuctionView, BidView, DeclineView, EventView, ExplainView, NodeView, ResultView, WorkloadView,
};
use shoal_protocol::model::{Resources, WallClock};

use super::*;
use crate::api::StatusBody;
use crate::fakes::{NODE, replica_view, status as status_view, workload_view};

/// 2026-11-21 03:05:00 UTC, five minutes after the fakes' replicas came to be.
const NOW: u64 = 1_795_230_300_000;

fn web() -> shoal_protocol::model::view::WorkloadView {
    let mut missing = replica_view("web/1", "missing", None);
    missing.reason = Some("its node n3 is down".into());
    workload_view("web", vec![replica_view("web/0", "healthy", Some("n2")), missing])
}

/// The ages in the tests below depend on this constant.
#[test]
fn now_is_the_time_the_tests_assume() {
    assert_eq!(WallClock(NOW).to_string(), "2026-11-21T03:05:00.000Z");
}

#[test]
fn ps_shows_one_line_per_workload() {
    let mut shop = workload_view("a-long-name", vec![]);
    shop.namespace = "shop".into();
    shop.conflict = true;
    let text = workloads(&[web(), shop], 0);
    assert_eq!(
        text,
        "NAME              REPLICAS  STATE                  NODES  PROGRAM   MEMORY  CPU\n\
         web                    1/2  1 missing              n2     cdcdcdcd  64 MiB  0.1\n\
         shop/a-long-name       0/0  scaled to 0, conflict  -      cdcdcdcd  64 MiB  0.1\n"
    );
    assert!(workloads(&[], 0).starts_with("Nothing is published yet."));
}

#[test]
fn ps_of_one_shows_one_line_per_replica() {
    assert_eq!(
        replicas(&[web()], NOW),
        "REPLICA  PHASE    NODE  SINCE  RESTARTS  TOKEN  REASON\n\
         web/0    healthy  n2       5m         0      3\n\
         web/1    missing  -         -         0      -  its node n3 is down\n"
    );
}

/// A job by its results, a cron workload by its next tick; where all are services, as before.
#[test]
fn ps_and_describe_show_kinds_and_results() {
    let result = |index, code: i32| ResultView {
        at: 0,
        index,
        outcome: if code == 0 { "done" } else { "failed" }.into(),
        exit_code: Some(code),
        ended: NOW,
        node: "n1".into(),
        lines: vec!["bye".into()],
    };
    let of = |name: &str, kind: &str, options: &[(&str, &str)]| WorkloadView {
        kind: kind.into(),
        options: options.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        ..workload_view(name, vec![])
    };
    let all = [("completions", "5"), ("keep", "1h")];
    let mut job = of("job", "job", &all);
    (job.job, job.results) = (Some("running".into()), vec![result(0, 0), result(1, 0)]);
    job.replicas = vec![replica_view("job/2", "healthy", Some("n2"))];
    (job.desired, job.healthy) = (1, 1);
    let mut failed = of("bad", "job", &all);
    (failed.job, failed.results) = (Some("failed".into()), vec![result(0, 3)]);
    let daily = [("schedule", "@daily"), ("timezone", "UTC")];
    let cron = of("report", "cron", &daily);
    let off = of("off", "cron", &[daily[0], daily[1], ("suspend", "true")]);
    let daemon = of("agent", "daemon", &[]);
    let text = workloads(&[job.clone(), failed.clone(), cron, off, daemon], NOW);
    assert_eq!(
        text,
        "NAME    KIND    REPLICAS  STATE                NODES  PROGRAM   MEMORY  CPU\n\
         job     job          1/1  2/5 done, 1 running  n2     cdcdcdcd  64 MiB  0.1\n\
         bad     job          0/0  failed (1)           -      cdcdcdcd  64 MiB  0.1\n\
         report  cron         0/0  next in 20h          -      cdcdcdcd  64 MiB  0.1\n\
         off     cron         0/0  suspended            -      cdcdcdcd  64 MiB  0.1\n\
         agent   daemon       0/0  no node fits         -      cdcdcdcd  64 MiB  0.1\n"
    );
    let text = describe(&failed, "0.0.0.0:8080", NOW);
    let end = "RUN  RESULT  EXIT  ENDED                     NODE\n\
               0    failed     3  2026-11-21T03:05:00.000Z  n1\n\n\
               last lines of 0\n  bye\n";
    assert!(text.ends_with(end) && text.contains("kind        job\n"), "{text}");
    let hour = 3_600_000;
    assert!(!is_forgotten(&failed, NOW + hour) && is_forgotten(&failed, NOW + hour + 1));
    assert!(!is_forgotten(&job, NOW + 9 * hour), "it is not over");
}

#[test]
fn describe_shows_all_fields() {
    assert_eq!(
        describe(&web(), "0.0.0.0:8080", NOW),
        "name        web\n\
         url         http://web.localhost:8080/\n\
         uid         09090909\n\
         generation  abababab\n\
         artifact    cdcdcdcd (53.7 KiB), wasm, held by 2 nodes\n\
         replicas    1 of 2 healthy\n\
         limits      64 MiB of memory, 0.1 of a core, each\n\
         env         GREETING=hi\n\
         require     none\n\
         owner       n1\n\
         guardians   n1, n2\n\
         \n\
         REPLICA  PHASE    NODE  SINCE  RESTARTS  TOKEN  REASON\n\
         web/0    healthy  n2       5m         0      3\n\
         web/1    missing  -         -         0      -  its node n3 is down\n"
    );
}

/// Labels and rules stand in one line, as a manifest has them.
#[test]
fn describe_shows_rules_beside_labels() {
    let mut view = web();
    view.options.insert("require".into(), "arch in (arm64, x86_64), !gpu".into());
    view.options.insert("tolerate".into(), "edge".into());
    let text = describe(&view, "0.0.0.0:8080", NOW);
    assert!(text.contains("require     arch in (arm64, x86_64), !gpu\n"), "{text}");
    assert!(text.contains("tolerate    edge\n"), "{text}");
    view.require.insert("zone".into(), "front".into());
    let text = describe(&view, "0.0.0.0:8080", NOW);
    assert!(text.contains("require     zone=front, arch in (arm64, x86_64), !gpu\n"), "{text}");
}

/// A container without a limit of its CPU showed one of a thousand cores.
#[test]
fn describe_tells_what_is_reserved_from_the_most() {
    let limit = Some(Resources { memory: 128 << 20, cpu: NO_CPU_LIMIT });
    let text = describe(&WorkloadView { limit, ..web() }, "0.0.0.0:8080", NOW);
    assert!(text.contains("reserved    64 MiB of memory, 0.1 of a core, each\n"), "{text}");
    assert!(text.contains("at most     128 MiB of memory, any CPU that is free, each\n"), "{text}");
}

#[test]
fn nodes_shows_state_and_reason() {
    let node = |name: &str, state: &str, me| NodeView {
        id: NODE.to_string(),
        name: name.into(),
        state: state.into(),
        reason: (state == "down").then(|| "2 of 2 observers agree".into()),
        me,
        ready: true,
        incarnation: 1,
        addresses: vec!["/ip4/10.0.0.5/tcp/7700".into()],
        arch: "x86_64".into(),
        runtimes: vec!["wasm".into()],
        allows: vec!["path=/data".into()],
        volumes: Vec::new(),
        labels: [("zone".to_owned(), "shop".to_owned())].into(),
        memory: 1 << 30,
        cpu: 4000,
        memory_used: 64 << 20,
        cpu_used: 100,
        replicas: 1,
        version: "0.1.0".into(),
        path: None,
        answered_by: [("/ip4/10.0.0.5/tcp/7700".to_owned(), "node n3".to_owned())].into(),
        no_way_to: if state == "up" && !me { vec!["n1".into()] } else { Vec::new() },
        rtt_us: (!me).then_some(310),
        ..NodeView::default()
    };
    let views = [node("n1", "up", true), node("n2", "down", false), node("n3", "up", false)];
    assert_eq!(
        nodes(&views, false),
        "NAME  ID        STATE  REPLICAS          MEMORY      CPU     RTT  RUNS  LABELS     \
         NOTE\n\
         n1    01010101  up            1  64 MiB / 1 GiB  0.1 / 4       -  wasm  zone=shop  \
         this node\n\
         n2    01010101  down          1  64 MiB / 1 GiB  0.1 / 4  0.4 ms  wasm  zone=shop  \
         2 of 2 observers agree\n\
         n3    01010101  up            1  64 MiB / 1 GiB  0.1 / 4  0.4 ms  wasm  zone=shop  \
         no way to n1\n"
    );
    assert!(
        nodes(&views, true).contains("x86_64  0.1.0              1  path=/data  /ip4/10.0.0.5"),
        "{}",
        nodes(&views, true)
    );
    assert!(
        nodes(&views, true).contains("observers agree; at /ip4/10.0.0.5/tcp/7700 answers node n3")
    );
}

#[test]
fn status_ends_with_warnings() {
    let (mesh, http) = ("10.0.0.5:7700".into(), "0.0.0.0:8080".into());
    let body = StatusBody { view: status_view(), mesh, http, pid: 7, instances: Some(1) };
    assert_eq!(
        status(&body, false),
        "cluster    c1c1c1c1, 2 of 3 nodes up\n\
         node       n1 (01010101), ready, 1 link\n\
         workloads  1, 1 of 2 replicas healthy\n\
         mesh       10.0.0.5:7700\n\
         http       0.0.0.0:8080\n\
         warning: the seed 10.0.0.9:7700 does not answer\n"
    );
    assert!(status(&body, true).contains("pid        7\n  messages                 7\n"));
}

/// The parts of a price that only rules make are shown where there are some.
#[test]
fn explain_shows_what_preferences_cost() {
    let auction = |prefer, balance| AuctionView {
        auction: "a".into(),
        replica: "web/0".into(),
        why: String::new(),
        owner: "n1".into(),
        opened: String::new(),
        took_ms: 1.0,
        bids: vec![BidView {
            node: "n1".into(),
            price: 5 + prefer + balance,
            share: 5,
            fetch: 0,
            spread: 0,
            prefer,
            balance,
        }],
        declines: Vec::new(),
        not_asked: Vec::new(),
        winner: None,
        token: None,
        outcome: String::new(),
    };
    let shown = |prefer, balance| {
        let auctions = vec![auction(prefer, balance)];
        let (replica, now) = ("web/0".to_owned(), Vec::new());
        explain(
            &ExplainView { replica, now, auctions, ask: Vec::new(), unfit: None },
            None,
            false,
            NOW,
        )
    };
    let text = shown(300, 4000);
    assert!(text.contains("BID BY  PRICE  SHARE  FETCH  SPREAD  PREFER  BALANCE\n"), "{text}");
    assert!(text.contains("n1       4305      5      0       0     300     4000\n"), "{text}");
    assert!(!shown(0, 0).contains("PREFER"));
}

#[test]
fn explain_shows_the_auction() {
    let bid = |node: &str, share| BidView {
        node: node.into(),
        price: share + 5,
        share,
        fetch: 5,
        spread: 0,
        prefer: 0,
        balance: 0,
    };
    let not = |node: &str, reason: &str| DeclineView { node: node.into(), reason: reason.into() };
    let auction = AuctionView {
        auction: "01010101-1.4".into(),
        replica: "web/0".into(),
        why: "its node n3 is down".into(),
        owner: "n1".into(),
        opened: "2026-11-21T03:00:00.000Z".into(),
        took_ms: 1.25,
        bids: vec![bid("n2", 62_500), bid("n1", 125_000)],
        declines: vec![not("n4", "no room")],
        not_asked: vec![not("n5", "zone = shop")],
        winner: Some("n2".into()),
        token: Some(3),
        outcome: "the lowest price".into(),
    };
    let mut view = ExplainView {
        replica: "web/0".into(),
        now: vec![replica_view("web/0", "healthy", Some("n2"))],
        auctions: vec![auction.clone()],
        ask: vec![],
        unfit: None,
    };
    assert_eq!(
        explain(&view, None, false, NOW),
        "web/0 is healthy on n2 since 5m under token 3\n\
         \n\
         auction 01010101-1.4 of n1, 2026-11-21T03:00:00.000Z, took 1.2 ms\n  \
           because   its node n3 is down\n  \
           winner    n2 under token 3: the lowest price\n  \
           BID BY   PRICE   SHARE  FETCH  SPREAD\n  \
           n2       62505   62500      5       0\n  \
           n1      125005  125000      5       0\n  \
           declined  n4: no room\n  \
           not asked n5: zone = shop\n"
    );
    view.auctions = vec![auction; 5];
    assert!(
        explain(&view, None, false, NOW)
            .ends_with("\n2 earlier ones are known: -o wide shows them.\n")
    );
    assert_eq!(explain(&view, None, true, NOW).matches("auction 0101").count(), 5);
    view.auctions.clear();
    assert!(
        explain(&view, None, false, NOW)
            .ends_with("No auction for it is remembered by those who could be asked.\n")
    );
}

#[test]
fn event_is_one_line() {
    let mut view = EventView {
        seq: 1,
        at: "2026-11-21T03:00:00.123Z".into(),
        level: "warning".into(),
        kind: "node-down".into(),
        subject: None,
        namespace: None,
        node: Some("n3".into()),
        message: "2 of 2 observers agree".into(),
    };
    assert_eq!(
        event(&view),
        "2026-11-21 03:00:00  warning  node-down           n3: 2 of 2 observers agree"
    );
    (view.level, view.subject) = ("info".into(), Some("web/0".into()));
    assert_eq!(
        event(&view),
        "2026-11-21 03:00:00           node-down           web/0: 2 of 2 observers agree"
    );
}

#[test]
fn url_works_on_this_device() {
    assert_eq!(url("default", "web", "0.0.0.0:8080"), "http://web.localhost:8080/");
    assert_eq!(url("shop", "web", "127.0.0.1:80"), "http://web.shop.localhost/");
    assert_eq!(
        url("default", "web", "10.0.0.5:8080"),
        "http://10.0.0.5:8080/ (with the header `Host: web.shoal`)"
    );
}

/// A place that is free for good is no place that waits for a node.
#[test]
fn explain_tells_ended_and_unfit_places_from_free_ones() {
    let view = |unfit: Option<&str>| ExplainView {
        replica: "shop/backup/0".into(),
        now: Vec::new(),
        auctions: Vec::new(),
        ask: Vec::new(),
        unfit: unfit.map(str::to_owned),
    };
    let text = explain(&view(None), Some("0 exited with code 0 on n1"), false, NOW);
    let ended = "shop/backup/0 exited with code 0 on n1, and is not placed again\n";
    assert!(text.starts_with(ended), "{text}");
    let text = explain(&view(Some("n2 does not fulfil zone = shop")), None, false, NOW);
    assert_eq!(text, "shop/backup has no place there: n2 does not fulfil zone = shop\n");
    assert!(explain(&view(None), None, false, NOW).starts_with("shop/backup/0 is held by no node"));
}

#[test]
fn workload_without_replicas_says_why() {
    let view = |kind: &str, options: &[(&str, &str)]| WorkloadView {
        kind: kind.into(),
        options: options.iter().map(|(name, it)| ((*name).into(), (*it).into())).collect(),
        ..workload_view("a", Vec::new())
    };
    let why = |view: &WorkloadView| no_replicas(view, NOW);
    let cron = [("schedule", "@yearly"), ("timezone", "UTC")];
    let text = why(&view("cron", &cron));
    assert!(text.starts_with("a has not run yet: next in "), "{text}");
    let suspended = [&cron[..], &[("suspend", "true")]].concat();
    let text = why(&view("cron", &suspended));
    assert_eq!(text, "a has not run yet: suspended, see `shoal cron resume`");
    let job = |state: &str| WorkloadView { job: Some(state.into()), ..view("job", &[]) };
    assert_eq!(why(&job("done")), "a is over: 0/1 done");
    assert_eq!(why(&job("failed")), "a is over: it failed (0)");
    assert_eq!(why(&view("daemon", &[])), "a has no replicas: no node fits");
    assert_eq!(why(&view("service", &[])), "a has no replicas: it is scaled to 0");
}
