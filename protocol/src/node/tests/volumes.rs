//! Volumes of replicas: the node that keeps one alone runs the replica, also after its owner and
//! the whole cluster have forgotten all but what is on disk.

use super::harness::Cluster;
use super::*;
use crate::membership;
use crate::model::spec::{
    Container, Cron, Image, Job, Kind, Missed, Mount, OnLoss, Overlap, Volume, VolumeSource,
};
use crate::model::{KeptVolume, KeyPair, NodeRecord, ProgramKind, Resources, Signed};

fn stateful(on_loss: OnLoss) -> Spec {
    let mut container = Container::of("main", Image::named("redis:7"));
    container.mounts =
        vec![Mount { volume: "data".into(), path: "/data".into(), read_only: false }];
    let resources = Resources { memory: 16 << 20, cpu: 100 };
    let mut form = SpecForm::container_service("web".parse().unwrap(), container, 1, resources);
    form.storage = vec![Volume { name: "data".into(), source: VolumeSource::Kept, on_loss }];
    form.try_into().unwrap()
}

fn volume(counter: u64) -> KeptVolume {
    KeptVolume {
        workload: "web".parse().unwrap(),
        place: "0".into(),
        name: "data".parse().unwrap(),
        counter,
    }
}

fn runs_containers(volumes: Vec<KeptVolume>) -> Facts {
    Facts { runtimes: [ProgramKind::Container].into(), volumes, ..facts() }
}

const OTHER: u8 = 11;

/// The founder, which runs containers, and a member that is up and keeps these volumes.
fn two(cluster: &Cluster, volumes: Vec<KeptVolume>) -> Harness {
    let mut founder = Harness::new(cluster.founder(Saved::default()));
    founder.input(Input::Facts(runs_containers(Vec::new())));
    cluster.join_member(OTHER, &mut founder);
    tell(cluster, &mut founder, 1, volumes);
    founder
}

/// The member tells what it keeps.
fn tell(cluster: &Cluster, founder: &mut Harness, counter: u64, volumes: Vec<KeptVolume>) {
    let keys = KeyPair::from_seed(&[OTHER; 32]);
    let record = NodeRecord {
        counter,
        incarnation: 1,
        name: "b".into(),
        addresses: Vec::new(),
        facts: runs_containers(volumes),
        version: "0".into(),
        ready: true,
        leaving: false,
        no_way_to: Vec::new(),
    };
    let record = Signed::sign(record, &keys, &cluster.genesis.cluster());
    let message = Message::Membership(membership::Message::Record(record.wire()));
    founder.input(Input::Message { from: other(), message });
}

fn other() -> NodeId {
    NodeId(KeyPair::from_seed(&[OTHER; 32]).public().0)
}

fn reason(harness: &Harness) -> String {
    let view = harness.node.workload(&"web".parse().unwrap()).unwrap();
    view.replicas[0].reason.clone().unwrap_or_default()
}

/// The link to the member ends, and it is found dead.
fn lose_the_other(founder: &mut Harness) {
    founder.input(Input::LinkDown { peer: other() });
    founder.run_for(Duration::from_secs(60));
    assert!(!founder.node.is_up(&other()), "the set-up: it is down");
}

/// It would start with an empty volume here, beside the data that it should have there.
#[test]
fn replica_is_offered_to_the_node_with_its_volume_alone() {
    let cluster = cluster();
    let mut founder = two(&cluster, vec![volume(3)]);
    founder.publish(&cluster, &stateful(OnLoss::Empty));
    // Shorter than it takes to notice that the other one does not answer.
    founder.run_for(Duration::from_millis(300));
    assert!(founder.node.is_up(&other()), "the set-up: it is up");
    assert_eq!(founder.node.own_claims().count(), 0, "{}", reason(&founder));
    // The volume was removed there.
    tell(&cluster, &mut founder, 2, Vec::new());
    founder.run_for(Duration::from_secs(30));
    assert_eq!(founder.node.own_claims().count(), 1, "{}", reason(&founder));
}

/// All tries of a job's index, and all runs of a schedule, have the same volume.
#[test]
fn run_of_a_job_is_offered_to_the_node_with_its_volume_alone() {
    let job = Job::default();
    let cron = Cron {
        schedule: "* * * * *".into(),
        zone: "UTC".into(),
        missed: Missed::Once,
        overlap: Overlap::Allow,
        suspended: false,
        job: job.clone(),
    };
    for kind in [Kind::Job(job), Kind::Cron(cron)] {
        let cluster = cluster();
        let mut founder = two(&cluster, vec![volume(3)]);
        let mut form = SpecForm::from(stateful(OnLoss::Wait));
        form.kind = kind;
        founder.publish(&cluster, &form.try_into().unwrap());
        lose_the_other(&mut founder);
        founder.run_for(Duration::from_secs(120));
        assert_eq!(founder.node.own_claims().count(), 0);
        let view = founder.node.workload(&"web".parse().unwrap()).unwrap();
        let reasons: Vec<String> = view.replicas.into_iter().filter_map(|it| it.reason).collect();
        assert!(reasons.iter().any(|it| it.contains("its volume `data` is on b")), "{reasons:?}");
    }
}

#[test]
fn replica_waits_for_the_node_with_its_volume() {
    let cluster = cluster();
    let mut founder = two(&cluster, vec![volume(3)]);
    founder.publish(&cluster, &stateful(OnLoss::Wait));
    lose_the_other(&mut founder);
    assert_eq!(founder.node.own_claims().count(), 0);
    let why = reason(&founder);
    assert!(why.starts_with("its volume `data` is on b, which is down: "), "{why}");
    // All nodes lost power: what is on disk says the same.
    let mut again = Harness::new(cluster.founder(saved(&founder.records)));
    again.input(Input::Facts(runs_containers(Vec::new())));
    again.run_for(Duration::from_secs(120));
    assert_eq!(again.node.own_claims().count(), 0, "{}", reason(&again));
    assert!(reason(&again).starts_with("its volume `data` is on b"), "{}", reason(&again));
}

/// A node that was stopped, or lost its power, soon after it heard of a volume placed the replica
/// anew at its next start, with an empty one: what it had heard was not on disk.
#[test]
fn node_with_the_volume_is_known_after_a_restart() {
    for is_orderly in [true, false] {
        let cluster = cluster();
        let mut founder = two(&cluster, vec![volume(0)]);
        founder.publish(&cluster, &stateful(OnLoss::Wait));
        founder.run_for(Duration::from_secs(10));
        tell(&cluster, &mut founder, 2, vec![volume(3)]);
        match is_orderly {
            true => founder.input(Input::Goodbye { back_in: Duration::from_secs(1) }),
            false => founder.run_for(Duration::from_secs(3)),
        }
        let mut again = Harness::new(cluster.founder(saved(&founder.records)));
        let record = again.node.membership.record(&other()).expect("the member is known");
        assert_eq!(record.facts.volumes, [volume(3)], "orderly: {is_orderly}");
        again.input(Input::Facts(runs_containers(Vec::new())));
        again.run_for(Duration::from_secs(60));
        assert_eq!(again.node.own_claims().count(), 0, "{}", reason(&again));
    }
}

#[test]
fn replica_that_may_lose_its_volume_starts_elsewhere() {
    let cluster = cluster();
    let mut founder = two(&cluster, vec![volume(3)]);
    founder.publish(&cluster, &stateful(OnLoss::Empty));
    lose_the_other(&mut founder);
    assert_eq!(founder.node.own_claims().count(), 1, "{}", reason(&founder));
    // Its volume is later than the one that was lost, so it is the one that counts.
    founder.input(Input::Facts(runs_containers(vec![volume(0)])));
    let own = founder.node.device.facts.volumes[0].counter;
    assert!(own > 3, "{own}");
}

/// A volume that was made first and used last lost against one that was used between: what had been
/// written last was out of sight.
#[test]
fn volume_that_was_used_last_counts() {
    let cluster = cluster();
    let mut founder = two(&cluster, vec![volume(3)]);
    founder.input(Input::Facts(runs_containers(vec![volume(1)])));
    founder.publish(&cluster, &stateful(OnLoss::Empty));
    lose_the_other(&mut founder);
    let claim = founder.node.own_claims().next().expect("it runs here now").token.counter;
    assert!(claim > 3, "{claim}");
    let told = founder.node.membership.record(&founder.node.me).unwrap().facts.volumes[0].counter;
    assert_eq!(told, claim, "other nodes know it, too");
}

/// A replica that is scaled away and back finds its data again: the volume stays where it was.
#[test]
fn volume_outlives_its_place_and_its_workload() {
    let cluster = cluster();
    let mut founder = two(&cluster, Vec::new());
    founder.input(Input::LinkDown { peer: other() });
    founder.publish(&cluster, &stateful(OnLoss::Wait));
    founder.run_for(Duration::from_secs(60));
    assert_eq!(founder.node.own_claims().count(), 1, "{}", reason(&founder));
    founder.input(Input::Facts(runs_containers(vec![volume(0)])));
    let spec = stateful(OnLoss::Wait);
    founder.publish(&cluster, &spec.scaled(0).unwrap());
    assert_eq!(founder.node.own_claims().count(), 0);
    founder.publish(&cluster, &spec);
    founder.run_for(Duration::from_secs(5));
    assert_eq!(founder.node.own_claims().count(), 1, "{}", reason(&founder));
}
