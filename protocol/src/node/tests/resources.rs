//! Cameras, disk and other things that are counted, from the publish to the claim.

use std::time::Duration;

use super::harness::{Harness, cluster, facts, spec};
use super::*;
use crate::model::view::{ReplicaView, SpecBody};
use crate::model::{Amounts, DISK, Facts, Spec, SpecForm, WorkloadName};

fn web() -> WorkloadName {
    "web".parse().unwrap()
}

fn using(replicas: u32, uses: &[(&str, u64)]) -> Spec {
    let mut form = SpecForm::from(spec(replicas, 32 << 20));
    form.later.uses = amounts(uses);
    form.try_into().unwrap()
}

fn amounts(all: &[(&str, u64)]) -> Amounts {
    all.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect()
}

fn offering(all: &[(&str, u64)]) -> Facts {
    Facts { offers: amounts(all), ..facts() }
}

fn founder() -> Harness {
    Harness::new(cluster().founder(Saved::default()))
}

fn healthy(harness: &Harness) -> u32 {
    harness.node.workload(&web()).unwrap().healthy
}

fn missing(harness: &Harness) -> ReplicaView {
    let view = harness.node.workload(&web()).unwrap();
    view.replicas.into_iter().find(|it| it.phase == "missing").unwrap()
}

/// Each camera is given to one replica; the next one waits with the reason, and with the name of a
/// replica that has one.
#[test]
fn camera_is_given_once() {
    let mut harness = founder();
    harness.input(Input::Facts(offering(&[("camera", 2)])));
    harness.publish(&cluster(), &using(3, &[("camera", 1)]));
    harness.run_for(Duration::from_secs(20));
    assert_eq!(healthy(&harness), 2);
    let why = missing(&harness);
    let text = format!("{why:?}");
    assert!(text.contains("camera: too few are free"), "{text}");
    let explained = harness.node.explain(&"web/2".parse().unwrap()).unwrap();
    let text = format!("{:?}", explained.auctions[0].declines);
    assert!(text.contains("camera: 0 free, web/"), "{text}");
    let view = harness.node.nodes().remove(0);
    assert_eq!(
        (view.resources, view.resources_used),
        (amounts(&[("camera", 2)]), amounts(&[("camera", 2)]))
    );
    harness.input(Input::Facts(offering(&[("camera", 3)])));
    harness.run_for(Duration::from_secs(40));
    assert_eq!(healthy(&harness), 3);
}

/// A node that offers fewer than are in use keeps what runs, and takes nothing new.
#[test]
fn lowered_offer_keeps_what_runs() {
    let mut harness = founder();
    harness.input(Input::Facts(offering(&[("camera", 2)])));
    harness.publish(&cluster(), &using(2, &[("camera", 1)]));
    harness.run_for(Duration::from_secs(10));
    harness.input(Input::Facts(offering(&[("camera", 1)])));
    harness.publish(&cluster(), &using(3, &[("camera", 1)]));
    harness.run_for(Duration::from_secs(20));
    assert_eq!(healthy(&harness), 2);
    assert_eq!(harness.node.promised().counted, amounts(&[("camera", 2)]));
}

/// The refusal names what no node offers, and what there is.
#[test]
fn what_no_node_offers_is_refused_with_what_there_is() {
    let mut harness = founder();
    harness.input(Input::Facts(offering(&[("camera", 1)])));
    let mut refused = |uses| harness.draft(Some(using(1, uses))).unwrap_err().to_string();
    let text = refused(&[("kamera", 1)]);
    assert!(text.contains("kamera: 1 needed, and the node offers none: 1 node left out"), "{text}");
    assert!(text.contains("no node offers `kamera`; offered: camera"), "{text}");
    let text = refused(&[("camera", 2)]);
    assert!(text.contains("camera: 2 needed, and the node offers 1"), "{text}");
    let text = refused(&[(DISK, 5 << 30)]);
    assert!(text.contains("disk: 5GiB needed, and the node offers none"), "{text}");
}

/// The disk that replicas reserve is counted, and the disk as it is must have room for it and for
/// what is still to be fetched.
#[test]
fn disk_is_counted_and_must_be_free() {
    let mut harness = founder();
    let of = |offered: u64, free: u64| Facts {
        measured: [("disk.free".into(), free)].into(),
        ..offering(&[(DISK, offered)])
    };
    harness.input(Input::Facts(of(5 << 30, 9 << 30)));
    harness.publish(&cluster(), &using(3, &[(DISK, 2 << 30)]));
    harness.run_for(Duration::from_secs(20));
    assert_eq!(healthy(&harness), 2);
    assert!(format!("{:?}", missing(&harness)).contains("disk: too few are free"));
    harness.input(Input::Facts(of(6 << 30, 1 << 30)));
    harness.run_for(Duration::from_secs(40));
    assert_eq!(healthy(&harness), 2);
    assert!(format!("{:?}", missing(&harness)).contains("its disk is full"));
    let explained = harness.node.explain(&"web/2".parse().unwrap()).unwrap();
    let text = format!("{:?}", explained.auctions[0].declines);
    assert!(text.contains("its disk is full: 1GiB are free, 2GiB are needed"), "{text}");
    harness.input(Input::Facts(of(6 << 30, 3 << 30)));
    harness.run_for(Duration::from_secs(40));
    assert_eq!(healthy(&harness), 3);
}

/// What does not fit on the disk is not fetched: the node leaves the place to others.
#[test]
fn artifact_that_does_not_fit_on_the_disk_is_declined() {
    let mut harness = founder();
    let free = |free: u64| Facts { measured: [("disk.free".into(), free)].into(), ..facts() };
    // Guardians fetch ahead; here the disk had no room for it.
    harness.fetch_error = Some("the disk is full");
    harness.input(Input::Facts(free(4)));
    harness.publish(&cluster(), &spec(1, 32 << 20));
    harness.run_for(Duration::from_secs(10));
    assert!(format!("{:?}", missing(&harness)).contains("its disk is full"));
    harness.fetch_error = None;
    harness.input(Input::Facts(free(5)));
    harness.run_for(Duration::from_secs(40));
    assert_eq!(healthy(&harness), 1);
}

/// What is counted is no part of what older programs read, and makes a revision of its own.
#[test]
fn counted_resources_are_of_form_3_and_of_a_revision() {
    let (plain, uses) = (spec(1, 32 << 20), using(1, &[("camera", 1), (DISK, 1 << 30)]));
    assert!(matches!(Value::workload(&plain), Value::Workload { version: 2, .. }));
    let value = Value::workload(&uses);
    assert!(matches!(&value, Value::Workload { version: 3, .. }));
    assert_eq!(value.spec(), Some(uses.clone()));
    assert_ne!(plain.revision(), uses.revision());
    assert_ne!(using(1, &[("camera", 2)]).revision(), using(1, &[("camera", 1)]).revision());
    let told = uses.later.options();
    assert_eq!(told, [("resources", "camera=1".into()), ("disk", "1GiB".to_owned())]);
    assert_eq!(Spec::try_from(SpecBody::from(&uses)), Ok(uses));
}
