use std::sync::Arc;

use shoal_protocol::model::access::{Access, Action, Exec};
use shoal_protocol::model::{Place, ReplicaName, codec};
use shoal_runtimes::InstanceId;
use tempfile::TempDir;
use tokio::io::DuplexStream;

use super::*;
use crate::api::ApiError;
use crate::fakes::{FakeCore, FakeRuntime, NODE};
use crate::publish::{Founding, Operator};

struct World {
    _folder: TempDir,
    host: Host,
    operator: Operator,
    replica: ReplicaName,
    core: Arc<FakeCore>,
}

fn world(runtime: &FakeRuntime) -> World {
    let founding = Founding::draw().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let operator = founding.establish(folder.path(), "ann").unwrap();
    let spool = folder.path().to_owned();
    let core = FakeCore::new();
    let host = Host::new(NODE, founding.genesis().root, runtime.set(), spool, core.clone());
    let replica = ReplicaName { workload: "web".parse().unwrap(), place: Place::Ordinal(0) };
    World { _folder: folder, host, operator, replica, core }
}

fn instance() -> InstanceId {
    InstanceId::new("web/0").unwrap()
}

impl World {
    /// The operator's end of a session that the node serves.
    fn serve(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (host, replica) = (self.host.clone(), self.replica.clone());
        tokio::spawn(async move { serve(host, replica, instance(), Frames::over(far)).await });
        near
    }

    async fn challenge(&self) -> (Frames, [u8; 32]) {
        let mut frames = Frames::over(self.serve());
        match frames.receiver.next().await.unwrap() {
            Frame::Challenge { node: NODE, nonce } => (frames, nonce),
            other => panic!("{other:?}"),
        }
    }

    fn signed(&self, operator: &Operator, nonce: [u8; 32]) -> Frame {
        Frame::Open(operator.sign_access(Access {
            workload: self.replica.workload.clone(),
            place: self.replica.place,
            node: NODE,
            nonce,
            action: Action::Connect { port: 80 },
        }))
    }
}

fn refused(frame: Frame) -> ApiError {
    match frame {
        Frame::Failed(failed) => failed.into(),
        other => panic!("{other:?}"),
    }
}

/// Any port of a component leads to its HTTP handler.
#[tokio::test]
async fn operator_reaches_the_port_of_a_component() {
    let runtime = FakeRuntime::new();
    runtime.run(instance());
    let world = world(&runtime);
    let action = Action::Connect { port: 80 };
    let mut frames = open(world.serve(), &world.operator, &world.replica, action).await.unwrap();
    let request = b"GET /hello HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    frames.sender.send(Frame::data(request)).await.unwrap();
    let mut answer = Vec::new();
    while let Frame::Data(bytes) = frames.receiver.next_of_node().await.unwrap() {
        answer.extend(bytes.0);
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("GET /hello"), "{answer}");
}

/// Another cluster's operator, and a statement that was seen on the way of another session.
#[tokio::test]
async fn only_this_sessions_statement_of_an_operator_opens_it() {
    let runtime = FakeRuntime::new();
    runtime.run(instance());
    let (world, other) = (world(&runtime), self::world(&runtime));
    let (mut frames, nonce) = world.challenge().await;
    frames.sender.send([world.signed(&other.operator, nonce)]).await.unwrap();
    assert_eq!(refused(frames.receiver.next().await.unwrap()).code, "not-allowed");

    let (mut first, nonce) = world.challenge().await;
    let statement = world.signed(&world.operator, nonce);
    first.sender.send([statement.clone()]).await.unwrap();
    assert_eq!(first.receiver.next().await.unwrap(), Frame::Opened);
    let (mut second, _) = world.challenge().await;
    second.sender.send([statement]).await.unwrap();
    let error = refused(second.receiver.next().await.unwrap());
    assert!(error.message.contains("another session"), "{error}");
}

/// An operator whose key was revoked keeps the file with it.
#[tokio::test]
async fn revoked_operator_opens_nothing() {
    let runtime = FakeRuntime::new();
    runtime.run(instance());
    let world = world(&runtime);
    world.core.revoked_keys.lock().unwrap().push(world.operator.keys().public());
    let (mut frames, nonce) = world.challenge().await;
    frames.sender.send([world.signed(&world.operator, nonce)]).await.unwrap();
    let error = refused(frames.receiver.next().await.unwrap());
    assert!(error.code == "not-allowed" && error.message.contains("was revoked"), "{error}");
}

/// Without a signed request, nothing is told but that one is expected.
#[tokio::test]
async fn data_without_a_request_opens_nothing() {
    let runtime = FakeRuntime::new();
    runtime.run(instance());
    let world = world(&runtime);
    let (mut frames, _) = world.challenge().await;
    let data = Frame::Data(codec::Bytes(b"ls".to_vec()));
    frames.sender.send([data]).await.unwrap();
    assert_eq!(refused(frames.receiver.next().await.unwrap()).code, "not-allowed");
}

#[tokio::test]
async fn component_says_that_it_has_no_shell() {
    let runtime = FakeRuntime::new();
    runtime.run(instance());
    let world = world(&runtime);
    let exec = Exec { command: vec!["ls".into()], ..Exec::default() };
    let opened = open(world.serve(), &world.operator, &world.replica, Action::Exec(exec)).await;
    match opened.err() {
        Some(OpenError::Refused(error)) => {
            assert_eq!(error.code, "unsupported");
            assert!(error.message.contains("no shell"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}
