//! Target: requests and answers of the API, and all that addresses a replica in it.

use http::{HeaderMap, HeaderValue, Uri, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shoal_protocol::fuzzing::Target;
use shoal_protocol::model::view::{ExplainView, NodeView, SpecBody, StatusView, WorkloadView};
use shoal_protocol::model::{Artifact, Digest, RawChange, Spec};

use super::form::{
    AcceptedBody, DownBody, DraftBody, DraftedBody, ErrorBody, LogBody, MeetingBody, PrepareBody,
    PreparedBody, RunningBody, SubmitBody, UsageBody,
};
use super::images::form::{
    FreedBody, HereBody, ImagesBody, PruneBody, PushedBody, RemoveBody, ResolveBody, ResolveLine,
};
use super::{Accepted, Prepared, Proposal, Since, routes};
use crate::ingress::host;
use crate::publish::Workload;

/// A body, a query or a host name, by the first byte.
pub const TARGET: Target = Target { name: "api", run, seeds, most: 4_096 };

fn run(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else { return };
    match kind % 16 {
        0 => proposal(text),
        1 => {
            let change = from::<SubmitBody>(text).map(RawChange::try_from);
            if let Some(Ok(raw)) = change {
                _ = raw.change.peek();
                assert!(RawChange::try_from(SubmitBody::from(&raw)) == Ok(raw));
            }
        }
        2 => _ = from::<PreparedBody>(text).map(Prepared::try_from),
        3 => {
            _ = from::<AcceptedBody>(text).map(Accepted::try_from);
            _ = from::<DraftedBody>(text).map(DraftedBody::draft);
            _ = from::<DraftBody>(text);
        }
        4 => _ = (from::<LogBody>(text), from::<UsageBody>(text), from::<RunningBody>(text)),
        5 => _ = (from::<ErrorBody>(text), from::<DownBody>(text), from::<MeetingBody>(text)),
        6 => _ = (from::<StatusView>(text), from::<NodeView>(text)),
        7 => _ = (from::<WorkloadView>(text), from::<ExplainView>(text)),
        8 => images(text),
        9 => _ = String::from_utf8_lossy(text).parse::<Since>(),
        10 => routes::read_target(&String::from_utf8_lossy(text)),
        _ => of_host(text),
    }
}

/// A body that is read is written and read again as the same.
fn from<T: Serialize + DeserializeOwned>(text: &[u8]) -> Option<T> {
    let body: T = routes::from_json(text).ok()?;
    let written = serde_json::to_vec(&body).expect("plain types of ours are JSON");
    assert!(routes::from_json::<T>(&written).is_ok(), "it cannot be read again");
    Some(body)
}

fn images(text: &[u8]) {
    _ = (from::<ResolveBody>(text), from::<ResolveLine>(text), from::<PushedBody>(text));
    _ = (from::<HereBody>(text), from::<ImagesBody>(text), from::<FreedBody>(text));
    _ = (from::<RemoveBody>(text), from::<PruneBody>(text));
}

fn proposal(text: &[u8]) {
    _ = routes::of_later(text);
    let Some(Ok(proposal)) = from::<PrepareBody>(text).map(Proposal::try_from) else { return };
    let Some(spec) = &proposal.spec else { return };
    let again = Spec::try_from(SpecBody::from(spec));
    assert_eq!(again.as_ref(), Ok(spec), "a spec is another one after a journey as JSON");
}

fn of_host(text: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(text) else { return };
    let headers = HeaderMap::from_iter([(header::HOST, value.clone())]);
    let target = value.to_str().ok().and_then(|it| it.parse::<Uri>().ok());
    for uri in [Some(Uri::from_static("/")), target].into_iter().flatten() {
        let Some(host) = host::host(&uri, &headers) else { continue };
        if let Some(name) = host::workload(&host) {
            let again = format!("{}.{}.shoal", name.name, name.namespace);
            assert_eq!(host::workload(&again), Some(name), "{host}");
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let artifact = Artifact { digest: Digest([1; 32]), size: 9 };
    let wasm = Workload::wasm("web", "web.wasm").expect("a label").env("A", "b").replicas(2);
    let wasm = wasm.spec(Some(artifact)).expect("a good spec");
    let image = Workload::image("db", "postgres:17").expect("a label").require("zone", "shop");
    let image = image.spec(None).expect("a good spec");
    let prepare = |spec: Spec| {
        let name = spec.name.clone();
        json(0, &PrepareBody::from(Proposal { name, spec: Some(spec), force: true }))
    };
    let texts = [
        (1, r#"{"change":"000102"}"#),
        (2, r#"{"clock":{},"serial":1,"uid":null,"current":null,"unheard":["a"],"cluster":""}"#),
        (4, r#"{"at":"2026-11-29T18:00:00Z","stream":"stdout","text":"hi"}"#),
        (5, r#"{"error":{"code":"invalid","message":"no","hint":null}}"#),
        (8, r#"{"reference":"redis:7","archs":["x86_64"]}"#),
        (9, "2026-11-29T18:00:00.5Z"),
        (9, "1h30m"),
        (9, "1767225600"),
        (10, "default/web/0?lines=5&follow=true&since=10m"),
        (10, "shop/web?watch=true"),
        (11, "web.shop.shoal:8080"),
        (11, "user@[::1]:80"),
    ];
    let texts = texts.map(|(kind, text)| [&[kind], text.as_bytes()].concat());
    [prepare(wasm), prepare(image)].into_iter().chain(texts).collect()
}

fn json(kind: u8, body: &impl Serialize) -> Vec<u8> {
    let text = serde_json::to_vec(body).expect("plain types of ours are JSON");
    [vec![kind], text].concat()
}
