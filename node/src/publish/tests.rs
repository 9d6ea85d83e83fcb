use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

use http::StatusCode;
use shoal_protocol::model::{Clock, KeyPair, RawChange, Value};
use shoal_protocol::node::{Draft, Refusal};
use shoal_protocol::trust::{self, Genesis};

use super::*;
use crate::fakes::spec;
use bytes::Bytes;
use shoal_protocol::model::spec::{Image, PlatformImage};
use tokio::io::AsyncReadExt;

fn founded(folder: &Path) -> (Genesis, Operator) {
    let founding = Founding::draw().unwrap();
    let operator = founding.establish(folder, "founder").unwrap();
    (founding.genesis(), operator)
}

fn draft(clock: Clock, serial: u64, uid: Option<Digest>) -> Draft {
    Draft { clock, serial, uid }
}

/// The first operator's changes verify against the cluster's genesis, and a reloaded key writes as
/// the same writer.
#[test]
fn changes_of_the_founder_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (genesis, operator) = founded(folder.path());
    let web = spec("web", 2);
    let change = operator.sign(&web.name, Some(&web), draft([].into(), 7, None)).unwrap();
    let accepted = trust::accept(&genesis, change).unwrap();
    assert_eq!(accepted.signed.value.spec().as_ref(), Some(&web));
    // Loaded again it is the same writer, so its changes never conflict with one another.
    let again = Operator::load(folder.path()).unwrap();
    let next = draft(accepted.signed.clock.clone(), 8, Some(accepted.uid()));
    let change = again.sign(&web.name, None, next).unwrap();
    let removed = trust::accept(&genesis, change).unwrap();
    assert_eq!(
        (&removed.signed.value, removed.signed.writer),
        (&Value::Tombstone, accepted.signed.writer)
    );
    assert_eq!(removed.signed.clock.len(), 1);
}

/// The files are for their owner alone; a second founding in the same folder is refused and alters
/// nothing.
#[test]
fn keys_are_private_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    founded(&config);
    for file in [OPERATOR_FILE, ROOT_FILE, INSTALLATION_FILE] {
        assert_eq!(
            fs::metadata(config.join(file)).unwrap().permissions().mode() & 0o777,
            0o600,
            "{file}"
        );
    }
    let before = fs::read(config.join(OPERATOR_FILE)).unwrap();
    let second = Founding::draw().unwrap();
    assert!(matches!(
        second.establish(&config, "founder"),
        Err(OperatorError::OtherCluster { .. })
    ));
    assert!(matches!(Founding::check_free(&config), Err(OperatorError::OtherCluster { .. })));
    assert_eq!(fs::read(config.join(OPERATOR_FILE)).unwrap(), before);
}

/// A first start is interrupted between any two files: the next one continues with the keys that
/// were drawn.
#[test]
fn interrupted_founding_continues_the_same_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let (file, config) = (folder.path().join("founding.json"), folder.path().join("config"));
    assert!(Founding::load(&file).unwrap().is_none());
    Founding::draw().unwrap().save(&file).unwrap();
    let begun = Founding::load(&file).unwrap().unwrap();
    begun.establish(&config, "founder").unwrap();
    // Interrupted between the root's file and the operator's.
    fs::remove_file(config.join(OPERATOR_FILE)).unwrap();
    let again = Founding::load(&file).unwrap().unwrap();
    let operator = again.establish(&config, "founder").unwrap();
    assert_eq!(operator.cluster(), begun.genesis().cluster());
    assert!(again.establish(&config, "founder").is_ok(), "the same once more is fine");
}

/// A cut file, keys that do not belong together and a bad installation id each name their file and
/// what to do.
#[test]
fn damaged_key_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    founded(folder.path());
    let file = folder.path().join(OPERATOR_FILE);
    let whole = fs::read_to_string(&file).unwrap();
    let other = founded(&folder.path().join("other")).0;
    let swapped = whole.replace(
        &serde_json::from_str::<serde_json::Value>(&whole).unwrap()["root"]
            .as_str()
            .unwrap()
            .to_owned(),
        &other.root.to_string(),
    );
    let half: String = whole.chars().take(whole.len() / 2).collect();
    for damaged in [half.as_str(), &swapped, "{}"] {
        fs::write(&file, damaged).unwrap();
        let error = Operator::load(folder.path()).unwrap_err();
        assert!(matches!(error, OperatorError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("operator.json") && error.hint().is_some());
    }
    fs::remove_file(&file).unwrap();
    assert!(matches!(Operator::load(folder.path()), Err(OperatorError::None(_))));
    fs::write(folder.path().join(INSTALLATION_FILE), "12").unwrap();
    files::write(&file, whole.as_bytes()).unwrap();
    assert!(Operator::load(folder.path()).unwrap_err().to_string().contains("installation"));
}

/// A node that keeps one workload and follows a script of what other operators do in between.
struct Node {
    genesis: Genesis,
    current: Mutex<Option<Spec>>,
    /// The specs that another operator writes just before each submit.
    others: Mutex<Vec<Spec>>,
    held: bool,
    /// Further versions that stand beside the current one.
    siblings: Vec<Version>,
    /// Nodes that cannot be asked.
    unheard: Vec<String>,
    /// Names that it refuses.
    refuses: Vec<&'static str>,
    /// Submits that it takes before it goes away.
    takes: usize,
    calls: Mutex<Vec<&'static str>>,
}

impl Node {
    fn new(genesis: Genesis, current: Option<Spec>) -> Self {
        Node {
            genesis,
            current: Mutex::new(current),
            others: Mutex::default(),
            held: false,
            siblings: Vec::new(),
            unheard: Vec::new(),
            refuses: Vec::new(),
            takes: usize::MAX,
            calls: Mutex::default(),
        }
    }

    fn versions(&self, current: Option<&Spec>) -> Vec<Version> {
        let key = KeyPair::from_seed(&[5; 32]).public();
        let current =
            current.map(|spec| Version { by: "bob".into(), key, spec: Some(spec.clone()) });
        current.into_iter().chain(self.siblings.iter().cloned()).collect()
    }

    fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl Door for Node {
    async fn holds(&self, _: &Digest) -> Result<bool, ApiError> {
        Ok(self.held)
    }

    async fn upload(&self, _: ProgramKind, part: &Part) -> Result<(), ApiError> {
        let mut bytes = Vec::new();
        part.reader().read_to_end(&mut bytes).await.unwrap();
        let Artifact { digest, size } = part.artifact;
        assert_eq!((digest, size), (Digest::of(&bytes), bytes.len() as u64));
        self.calls.lock().unwrap().push("upload");
        Ok(())
    }

    /// An engine that has every image, as one part.
    async fn resolve(
        &self,
        asked: &ResolveBody,
        _: &mut (dyn FnMut(ImageProgress) + Send),
    ) -> Result<ResolvedImage, ApiError> {
        self.calls.lock().unwrap().push("resolve");
        let part = |n: u8| Artifact { digest: Digest([n; 32]), size: 1 };
        let platform = PlatformImage {
            arch: "x86_64".into(),
            config: part(1),
            layers: vec![part(2)],
            pieces: None,
        };
        let mut image = Image::named(&asked.reference);
        (image.pull, image.platforms) = (asked.pull, vec![platform]);
        let notes = vec!["a note".into()];
        Ok(ResolvedImage {
            image,
            from: "engine".into(),
            new_parts: 2,
            known_parts: 0,
            notes,
            exposed: vec![80, 5432],
        })
    }

    async fn prepare(&self, proposal: Proposal) -> Result<Prepared, ApiError> {
        self.calls.lock().unwrap().push("prepare");
        let current = self.current.lock().unwrap();
        if self.refuses.contains(&proposal.name.name.as_str()) {
            return Err(Refusal::Unplaceable(vec!["no zone moon".into()]).into());
        }
        if proposal.spec.is_none() && current.is_none() {
            return Err(Refusal::NoSuchWorkload(proposal.name).into());
        }
        let uid = current.as_ref().map(|_| Digest([9; 32]));
        Ok(Prepared {
            draft: draft([].into(), 7, uid),
            current: current.clone(),
            unheard: self.unheard.clone(),
            is_good: true,
            warnings: Vec::new(),
            versions: self.versions(current.as_ref()),
            cluster: self.genesis.cluster(),
        })
    }

    async fn submit(&self, change: RawChange) -> Result<Accepted, ApiError> {
        let taken = self.calls.lock().unwrap().iter().filter(|call| **call == "submit").count();
        self.calls.lock().unwrap().push("submit");
        if taken >= self.takes {
            return Err(ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "no-daemon",
                "the daemon went away",
            ));
        }
        let mut others = self.others.lock().unwrap();
        if !others.is_empty() {
            *self.current.lock().unwrap() = Some(others.remove(0));
            return Err(Refusal::Stale.into());
        }
        let change = trust::accept(&self.genesis, change).unwrap();
        *self.current.lock().unwrap() = change.signed.value.spec();
        Ok(Accepted { uid: change.uid(), change: change.hash() })
    }
}

fn ready_to_go(replicas: u32) -> Ready {
    ready_as("web", replicas)
}

fn ready_as(name: &str, replicas: u32) -> Ready {
    let bytes = Bytes::from_static(b"a component");
    let artifact = Artifact { digest: Digest::of(&bytes), size: bytes.len() as u64 };
    let workload = Workload::wasm(name, bytes.clone())
        .unwrap()
        .replicas(replicas)
        .env("A", replicas.to_string());
    Ready {
        spec: workload.spec(Some(artifact)).unwrap(),
        parts: vec![Part::bytes(artifact, bytes)],
    }
}

/// A second publish of another spec lists the differences; a third one of the same spec writes
/// nothing.
#[tokio::test]
async fn publish_creates_then_changes_then_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (genesis, operator) = founded(folder.path());
    let node = Node::new(genesis, None);
    let created = publish(&node, &operator, &ready_to_go(1), false).await.unwrap();
    assert_eq!(created.outcome, Outcome::Created);
    assert_eq!(node.calls(), ["prepare", "upload", "submit"]);
    let changed = publish(&node, &operator, &ready_to_go(2), false).await.unwrap();
    let Outcome::Changed(differences) = changed.outcome else { panic!("{changed:?}") };
    let told: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["replicas 1 -> 2", "env A 1 -> 2"]);
    node.calls();
    assert_eq!(
        publish(&node, &operator, &ready_to_go(2), false).await.unwrap().outcome,
        Outcome::Unchanged
    );
    assert_eq!(node.calls(), ["prepare"], "nothing was written");
}

/// Another operator changes the workload before each submit: one such change is retried, endless
/// ones end in an error.
#[tokio::test]
async fn stale_publish_is_retried_then_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let (genesis, operator) = founded(folder.path());
    let node = Node::new(genesis, Some(spec("web", 9)));
    node.others.lock().unwrap().push(spec("web", 8));
    let published = publish(&node, &operator, &ready_to_go(1), false).await.unwrap();
    assert!(matches!(published.outcome, Outcome::Changed(_)));
    assert_eq!(node.current.lock().unwrap().as_ref().unwrap().replicas(), 1);

    node.others.lock().unwrap().extend((1..=9).map(|replicas| spec("web", 100 + replicas)));
    let error = publish(&node, &operator, &ready_to_go(2), false).await.unwrap_err();
    assert!(matches!(error, PublishError::Contended(_)), "{error}");
}

/// Another operator changes the CPU while this one scales: the retry starts from the new spec, so
/// that both changes count.
#[tokio::test]
async fn scale_keeps_concurrent_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (genesis, operator) = founded(folder.path());
    let node = Node::new(genesis, Some(spec("web", 1)));
    let mut other = shoal_protocol::model::SpecForm::from(spec("web", 1));
    let mut resources = other.reservation();
    resources.cpu = 777;
    other.resources = resources.into();
    node.others.lock().unwrap().push(other.try_into().unwrap());
    scale(&node, &operator, &"web".parse().unwrap(), 4, false).await.unwrap();
    let now = node.current.lock().unwrap().clone().unwrap();
    assert_eq!((now.replicas(), now.reservation().cpu), (4, 777));
}

/// A removal works once; the second one is refused with 404.
#[tokio::test]
async fn removal_of_a_missing_workload_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (genesis, operator) = founded(folder.path());
    let node = Node::new(genesis, Some(spec("web", 1)));
    let name = "web".parse().unwrap();
    assert_eq!(remove(&node, &operator, &name, false).await.unwrap().outcome, Outcome::Removed);
    match remove(&node, &operator, &name, false).await.unwrap_err() {
        PublishError::Api(error) => assert_eq!(error.status, StatusCode::NOT_FOUND),
        other => panic!("{other}"),
    }
}

/// The node's cluster is not that of the key: nothing is signed, and the hint names the options to
/// set.
#[tokio::test]
async fn key_of_another_cluster_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_, operator) = founded(&folder.path().join("a"));
    let (genesis, _) = founded(&folder.path().join("b"));
    let node = Node::new(genesis, None);
    let error = publish(&node, &operator, &ready_to_go(1), false).await.unwrap_err();
    assert!(
        matches!(error, PublishError::OtherCluster { .. })
            && error.hint().unwrap().contains("--config"),
        "{error}"
    );
    assert_eq!(node.calls(), ["prepare"]);
}

/// A text file, a core module and a missing file are refused before any node is asked.
#[tokio::test]
async fn unrunnable_file_is_refused_locally() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("readme.txt");
    fs::write(&file, "hello").unwrap();
    let workload = |source: &Path| Workload::wasm("web", source.to_owned()).unwrap();
    let error = ready(&workload(&file)).await.unwrap_err().to_string();
    assert!(
        error.contains("readme.txt cannot be run") && error.contains("not WebAssembly"),
        "{error}"
    );
    fs::write(&file, b"\0asm\x01\0\0\0").unwrap();
    let error = ready(&workload(&file)).await.unwrap_err().to_string();
    assert!(error.contains("core WebAssembly module"), "{error}");
    let error = ready(&workload(&folder.path().join("none"))).await.unwrap_err();
    assert!(matches!(error, PublishError::File { .. }), "{error}");
}

/// A node that had missed a change said "is up to date" and wrote nothing; the change came back and
/// won.
#[tokio::test]
async fn unconfirmed_workload_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let (genesis, operator) = founded(folder.path());
    let mut node = Node::new(genesis, Some(ready_to_go(2).spec));
    node.unheard = vec!["n0".into()];
    let again = publish(&node, &operator, &ready_to_go(2), false).await.unwrap();
    assert_eq!(again.outcome, Outcome::Repeated(vec!["n0".into()]));
    assert!(node.calls().contains(&"submit"));
    let scaled = scale(&node, &operator, &"web".parse().unwrap(), 2, false).await.unwrap();
    assert_eq!(scaled.outcome, Outcome::Repeated(vec!["n0".into()]));
    assert!(node.calls().contains(&"submit"));
}

/// The second of two documents was refused with "nothing changed", and the first was published.
#[tokio::test]
async fn one_refusal_publishes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (genesis, operator) = founded(folder.path());
    let mut node = Node::new(genesis, None);
    node.refuses = vec!["second", "third"];
    let all = ["first", "second", "third", "fourth"].map(|name| ready_as(name, 1));
    let error = publish_all(&node, &operator, &all, false).await.unwrap_err();
    let refused: Vec<String> = error.failed.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(refused, ["second", "third"], "all refusals are told");
    assert!(error.published.is_empty() && error.untried.is_empty());
    assert!(node.calls().iter().all(|call| *call == "prepare"), "no bytes were sent either");
    let error = crate::cli::CliError::from(error);
    assert_eq!(error.exit, crate::cli::Exit::Refused);
    assert!(error.message.starts_with("nothing was changed:"), "{error:?}");
    assert!(error.message.contains("second: no node can run this: no zone moon"), "{error:?}");
    // For a single change the refusal is the whole message.
    let error = publish_all(&node, &operator, &all[1..2], false).await.unwrap_err();
    assert!(crate::cli::CliError::from(error).message.starts_with("no node can run this"));
}

/// The daemon died in the middle: a person must know what was published, what was not, and what is
/// not known.
#[tokio::test]
async fn failure_midway_lists_what_was_published() {
    let folder = tempfile::tempdir().unwrap();
    let (genesis, operator) = founded(folder.path());
    let mut node = Node::new(genesis, None);
    node.takes = 1;
    let all = ["first", "second", "third"].map(|name| ready_as(name, 1));
    let error = publish_all(&node, &operator, &all, false).await.unwrap_err();
    let published: Vec<String> = error.published.iter().map(|done| done.name.to_string()).collect();
    assert_eq!(published, ["first"]);
    let [(name, PublishError::Unanswered(_))] = &error.failed[..] else { panic!("{error:?}") };
    assert_eq!(name.to_string(), "second");
    assert_eq!(error.untried.iter().map(ToString::to_string).collect::<Vec<_>>(), ["third"]);
    let error = crate::cli::CliError::from(error);
    assert_eq!(error.exit, crate::cli::Exit::Failed, "4 promises that nothing changed");
    for told in [
        "first: created",
        "second: the daemon went away",
        "may have done so",
        "third: was not tried",
    ] {
        assert!(error.message.contains(told), "{told}: {}", error.message);
    }
}

/// The image of an engine is settled before it is signed; one whose parts are known already, and a
/// component, are left as they are.
#[tokio::test]
async fn image_of_an_engine_is_pinned_before_it_is_signed() {
    let folder = tempfile::tempdir().unwrap();
    let (genesis, operator) = founded(folder.path());
    let node = Node::new(genesis, None);
    let workload = Workload::image("web", "hello").unwrap();
    let (pinned, notes) = pinned(&node, &workload, &mut |_| {}).await.unwrap();
    assert_eq!((node.calls(), notes), (vec!["resolve"], vec!["a note".to_owned()]));
    let ready = ready(&pinned).await.unwrap();
    assert_eq!(ready.spec.program.artifacts().count(), 2, "all replicas run the same bytes");
    assert_eq!(ready.spec.later.exposed, [80, 5432], "other workloads reach them by its name");
    publish(&node, &operator, &ready, false).await.unwrap();
    node.calls();
    super::pinned(&node, &pinned, &mut |_| {}).await.unwrap();
    let more = workload.clone().exposes([7, 80]);
    let (more, _) = super::pinned(&node, &more, &mut |_| {}).await.unwrap();
    assert_eq!(more.spec(None).unwrap().later.exposed, [7, 80, 5432], "those of its file, too");
    node.calls();
    let named = workload.with_container(|container| container.http = Some(80));
    let (named, _) = super::pinned(&node, &named, &mut |_| {}).await.unwrap();
    assert_eq!(named.spec(None).unwrap().later.exposed, [5432], "the other it names itself");
    assert_eq!(node.calls(), ["resolve"]);
    let component = Workload::wasm("web", "web.wasm").unwrap();
    super::pinned(&node, &component, &mut |_| {}).await.unwrap();
    assert_eq!(node.calls(), [] as [&str; 0]);
}

/// Whoever finds the file of a root key must not be able to use it.
#[test]
fn key_under_a_passphrase_is_of_no_use_without_it() {
    let folder = tempfile::tempdir().unwrap();
    Founding::draw().unwrap().establish(folder.path(), "ann").unwrap();
    for name in [ROOT_FILE, OPERATOR_FILE] {
        let path = folder.path().join(name);
        let read = || KeyFile::read(&path).unwrap().unwrap();
        let before = read().open(None, folder.path()).unwrap();
        let seed = read().seed(None).unwrap();
        read().reseal(&seed, Some("four words of mine")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&Digest(seed).to_string()), "the seed is in {text}");
        assert_eq!(read().cluster(), before.cluster(), "that can be read without it");
        let open = |it| read().open(it, folder.path()).map(|it| it.keys().public());
        assert!(matches!(open(None), Err(OperatorError::Locked(_))));
        assert!(matches!(open(Some("four words of yours")), Err(OperatorError::Passphrase(_))));
        assert_eq!(open(Some("four words of mine")).unwrap(), before.keys().public());
        let seed = read().seed(Some("four words of mine")).unwrap();
        read().reseal(&seed, None).unwrap();
        assert_eq!(open(None).unwrap(), before.keys().public());
    }
}

/// Altered costs must not take all memory, and altered bytes are no key.
#[test]
fn altered_sealed_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    Founding::draw().unwrap().establish(folder.path(), "ann").unwrap();
    let path = folder.path().join(ROOT_FILE);
    let file = KeyFile::read(&path).unwrap().unwrap();
    let seed = file.seed(None).unwrap();
    file.reseal(&seed, Some("four words of mine")).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let sealed = serde_json::from_str::<serde_json::Value>(&text).unwrap()["seed"].clone();
    let damages = [
        ("memory_kib", serde_json::json!(u32::MAX)),
        ("passes", serde_json::json!(u32::MAX)),
        ("passes", serde_json::json!(0)),
        ("salt", serde_json::json!("00")),
        ("sealed", serde_json::json!("")),
        ("kdf", serde_json::json!("none")),
    ];
    for (field, value) in damages {
        let mut form: serde_json::Value = serde_json::from_str(&text).unwrap();
        form["seed"] = sealed.clone();
        form["seed"][field] = value.clone();
        files::write(&path, form.to_string().as_bytes()).unwrap();
        let opened =
            KeyFile::read(&path).and_then(|file| file.unwrap().seed(Some("four words of mine")));
        assert!(opened.is_err(), "{field} {value}");
    }
}

mod plan;
