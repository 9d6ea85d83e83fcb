//! The plain values that a node gives its replicas, and the keys that it asks others for.

use shoal_protocol::model::change::Secret;
use shoal_protocol::model::codec::Bytes;
use shoal_protocol::model::spec::{Target, ValueKind, ValueUse};
use shoal_protocol::model::{Key, Spec, SpecForm, Value, WorkloadName};
use shoal_runtimes::given::Given;

use super::*;
use crate::fakes::spec;
use crate::secrets::seal::{DataKey, Of, Opener};
use crate::secrets::{NoValues, Resolver, Values};

const CLUSTER: ClusterId = ClusterId([3; 32]);
const VERSION: Digest = Digest([6; 32]);

fn opener(node: NodeId) -> Opener {
    Opener::of(&node.0)
}

fn name(text: &str) -> WorkloadName {
    text.parse().unwrap()
}

/// A workload of `shop` with the secret or config `db` as a variable, or as a file.
fn using(kind: ValueKind, to: Target) -> Spec {
    let mut form = SpecForm::from(spec("shop/web", 1));
    if let Target::File { .. } = to {
        let container = shoal_protocol::model::spec::Container::of(
            "main",
            shoal_protocol::model::spec::Image::named("db:1"),
        );
        form = SpecForm::container_service(name("shop/web"), container, 1, form.reservation());
    }
    form.later.values = vec![ValueUse { kind, name: "db".parse().unwrap(), to }];
    form.try_into().unwrap()
}

fn variable() -> Target {
    Target::Env("DB".into())
}

/// The secret `shop/db`, sealed to these nodes.
fn secret(nodes: &[NodeId], holders_only: bool) -> Value {
    let (db, key) = (name("shop/db"), DataKey::draw().unwrap());
    let of = Of { cluster: &CLUSTER, name: &db };
    let seal = |node: &NodeId| (*node, Bytes(key.seal(of, &opener(*node).public()).unwrap()));
    let keys = nodes.iter().map(seal).collect();
    Value::Secret(Secret { sealed: Bytes(key.encrypt(of, b"hunter2")), keys, holders_only })
}

fn has(world: &World, key: Key, value: Value) {
    world.core.values.lock().unwrap().insert(key, (VERSION, value));
}

fn resolver(world: &World, node: NodeId) -> Resolver {
    let peers = Peers::new(world.mesh.clone());
    Resolver::new(opener(node), CLUSTER, node, world.core.clone(), peers)
}

async fn resolved(world: &World, node: NodeId, spec: &Spec) -> Result<Given, String> {
    resolver(world, node).resolve(spec).await.map_err(|NoValues(why)| why)
}

#[tokio::test]
async fn replica_gets_what_its_spec_names_or_a_reason() {
    let world = World::new().await;
    let by_env = using(ValueKind::Secret, variable());
    let missing = resolved(&world, NODE, &by_env).await.unwrap_err();
    assert_eq!(missing, "secret shop/db does not exist: `shoal secret set shop/db`");
    has(&world, Key::Secret(name("shop/db")), secret(&[NODE], false));
    let given = resolved(&world, NODE, &by_env).await.unwrap();
    assert_eq!(given.variables().collect::<Vec<_>>(), [("DB", "hunter2")]);

    let path = "/run/secrets/db".to_owned();
    let file = Target::File { path, mode: 0o440, uid: Some(7), gid: None };
    let given = resolved(&world, NODE, &using(ValueKind::Secret, file)).await.unwrap();
    let [file] = &given.files[..] else { panic!("{given:?}") };
    assert_eq!((file.bytes.reveal(), file.mode, file.uid), (&b"hunter2"[..], 0o440, Some(7)));

    has(&world, Key::Config(name("shop/db")), Value::Config(Bytes(vec![0xff])));
    let no_text = resolved(&world, NODE, &using(ValueKind::Config, variable())).await.unwrap_err();
    assert!(no_text.starts_with("config shop/db is no text"), "{no_text}");
}

/// Two nodes: the secret was sealed to the second one.
async fn left_out(holders_only: bool) -> (World, World) {
    let mesh = Arc::new(FakeMesh::default());
    let (here, mut there) =
        (World::of(NODE, mesh.clone()).await, World::of(OTHER, mesh.clone()).await);
    for world in [&here, &there] {
        has(world, Key::Secret(name("shop/db")), secret(&[], holders_only));
    }
    let value = secret(&[OTHER], holders_only);
    has(&here, Key::Secret(name("shop/db")), value.clone());
    has(&there, Key::Secret(name("shop/db")), value);
    *here.core.sources.lock().unwrap() = vec![NodeId([8; 32]), OTHER];
    there.service = there.service.clone().with_secrets(resolver(&there, OTHER));
    let tunnels = Acceptor::new(mesh.take(OTHER));
    let peers = Peers::new(mesh.clone());
    let ingress = Ingress::new("n2", there.core.clone(), there.runtime.set(), peers);
    let api = Arc::new(ForPeers::new(there.service.clone()));
    tokio::spawn(server::serve_tunnels(tunnels, Arc::new(ingress), api, CancellationToken::new()));
    (here, there)
}

/// It joined after the secret was set. The first node that it asks is not there, the second one
/// passes the key on, sealed to it.
#[tokio::test]
async fn node_that_was_left_out_gets_the_key_from_one_that_has_it() {
    let (here, there) = left_out(false).await;
    there.core.entitled.lock().unwrap().insert(NODE, opener(NODE).public());
    let resolver = resolver(&here, NODE);
    let spec = using(ValueKind::Secret, variable());
    let given = resolver.resolve(&spec).await.unwrap();
    assert_eq!(given.variables().collect::<Vec<_>>(), [("DB", "hunter2")]);
    // The other one may be gone when the replica is started again.
    here.core.sources.lock().unwrap().clear();
    resolver.resolve(&spec).await.unwrap();
}

#[tokio::test]
async fn node_that_is_not_entitled_is_told_so_and_gets_nothing() {
    let (here, there) = left_out(false).await;
    let spec = using(ValueKind::Secret, variable());
    let refused = resolved(&here, NODE, &spec).await.unwrap_err();
    assert!(refused.contains("cannot read secret shop/db yet"), "{refused}");
    assert!(refused.contains("no workload that uses it may run on the node"), "{refused}");
    // Another node's key in the record of the asker: it cannot open the answer.
    there.core.entitled.lock().unwrap().insert(NODE, opener(OTHER).public());
    assert!(resolved(&here, NODE, &spec).await.unwrap_err().contains("does not open"));
}

#[tokio::test]
async fn secret_of_its_holders_is_not_asked_for() {
    let (here, there) = left_out(true).await;
    there.core.entitled.lock().unwrap().insert(NODE, opener(NODE).public());
    let spec = using(ValueKind::Secret, variable());
    let refused = resolved(&here, NODE, &spec).await.unwrap_err();
    assert!(refused.contains("holders of that moment"), "{refused}");
}

/// The API's socket shows configs, and nothing of secrets.
#[tokio::test]
async fn configs_are_shown_and_secrets_are_not() {
    let world = World::new().await;
    has(&world, Key::Config(name("shop/site")), Value::Config(Bytes(b"listen 80".to_vec())));
    has(&world, Key::Secret(name("shop/db")), secret(&[NODE], false));
    let (status, text) = world.get("/v1/configs/shop/site").await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "listen 80"));
    let (status, text) = world.get("/v1/configs/shop/db").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(text.contains("shoal config ls"), "{text}");
    let version = VERSION.to_string();
    let (status, _) = world.get(&format!("/v1/secret-key/shop/db/{version}")).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "keys are for peers");
}
