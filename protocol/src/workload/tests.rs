use std::collections::BTreeMap;

use imbl::OrdMap;

use super::*;
use crate::model::{Artifact, Digest, NodeId, Resources, RuntimeKind, SpecForm};

fn spec(replicas: u32) -> Spec {
    SpecForm {
        name: "web".parse().unwrap(),
        runtime: RuntimeKind::Wasm,
        artifact: Artifact { digest: Digest([1; 32]), size: 1 },
        replicas,
        resources: Resources { memory: 1 << 26, cpu: 100 },
        env: BTreeMap::new(),
        require: BTreeMap::new(),
    }
    .try_into()
    .unwrap()
}

/// A holder asks about its own place, an owner about all of them. If the answers differed, the
/// holder would stop a replica and the owner auction it again, for ever.
#[test]
fn one_place_and_all_places_agree() {
    let (members, policies) = (OrdMap::new(), BTreeMap::new());
    let view = View { members: &members, policies: &policies, rulings: &[] };
    for replicas in [0, 1, 3] {
        let spec = spec(replicas);
        let all = places(&spec, &view);
        assert_eq!(all.len() as u32, count(&spec, &view));
        let asked = (0..5)
            .map(Place::Ordinal)
            .chain([Place::OnNode(NodeId([1; 32])), Place::Run { at: 0, index: 0 }]);
        for place in asked {
            assert_eq!(revision_at(&spec, &view, place), all.get(&place).copied(), "{place:?}");
        }
    }
}
