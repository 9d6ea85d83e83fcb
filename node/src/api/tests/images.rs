//! Images by name: who holds them, and what may be removed.

use shoal_protocol::model::spec::{Image, PlatformImage};
use shoal_protocol::node::ImageUse;

use super::*;
use crate::api::images::form::{ImagesBody, PruneBody, PushedBody};
use crate::fakes::node_view;
use crate::images::Images;

/// A node whose store has the bytes of an image, and the image.
async fn holding(world: &World, text: &str) -> PlatformImage {
    let mut parts = Vec::new();
    for part in ["config", "layer"] {
        let bytes = format!("{part} of {text}");
        let digest = Digest::of(bytes.as_bytes());
        world.service.artifacts.put(bytes.clone()).await.unwrap();
        parts.push(Artifact { digest, size: bytes.len() as u64 });
    }
    PlatformImage { arch: "x86_64".into(), config: parts[0], layers: vec![parts[1]], pieces: None }
}

impl World {
    /// A node that remembers images.
    async fn with_images(node: NodeId, mesh: Arc<FakeMesh>) -> World {
        let mut world = World::of(node, mesh).await;
        let images = Images::open(world._folder.path(), None);
        world.service = world.service.with_images(images);
        world
    }

    async fn pushed(&self, name: &str) -> PlatformImage {
        let platform = holding(self, name).await;
        let platforms = vec![platform.clone()];
        self.service.pushed(PushedBody { name: name.into(), platforms }).await.unwrap();
        platform
    }

    fn runs(&self, workload: &str, platform: &PlatformImage) {
        let image = Image { platforms: vec![platform.clone()], ..Image::named("used") };
        let workload = workload.parse().unwrap();
        self.core.images.lock().unwrap().push(ImageUse { workload, image, needed_here: false });
    }

    async fn holds(&self, platform: &PlatformImage) -> bool {
        [platform.config, platform.layers[0]]
            .iter()
            .all(|part| self.service.holds(&part.digest).is_some())
    }
}

/// Two nodes; the second answers the first over the mesh.
async fn two() -> (World, World) {
    let mesh = Arc::<FakeMesh>::default();
    let one = World::with_images(NODE, mesh.clone()).await;
    let two = World::with_images(OTHER, mesh.clone()).await;
    let ingress = Arc::new(Ingress::new(
        "n2",
        two.core.clone(),
        two.runtime.set(),
        Peers::new(two.mesh.clone()),
    ));
    let acceptor = Acceptor::new(mesh.take(OTHER));
    let peers = Arc::new(ForPeers::new(two.service.clone()));
    tokio::spawn(server::serve_tunnels(acceptor, ingress, peers, CancellationToken::new()));
    for world in [&one, &two] {
        let views = [(NODE, "n1"), (OTHER, "n2")].map(|(id, name)| {
            let mut view = node_view(id, name);
            view.me = id == world.service.about.node;
            view
        });
        *world.core.nodes.lock().unwrap() = views.into();
    }
    (one, two)
}

/// An image that was pushed to another node is found by its name, listed with its holders and its
/// users, and its parts need not be here.
#[tokio::test]
async fn pushed_image_is_found_from_every_node() {
    let (one, two) = two().await;
    let platform = two.pushed("shop/till:3").await;
    one.runs("till", &platform);
    let (status, text) = one.get("/v1/images").await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let ImagesBody { images, unasked } = serde_json::from_str(&text).unwrap();
    assert!(unasked.is_empty(), "{unasked:?}");
    let till = images.iter().find(|it| it.name == "shop/till:3").unwrap();
    assert_eq!(till.id, platform.config.digest.to_string());
    assert_eq!((&till.held_by[..], &till.used_by[..]), (&["n2".into()][..], &["till".into()][..]));
    let body = r#"{"reference":"docker.io/shop/till:3"}"#;
    let (_, text) = one.call(Method::POST, "/v1/images/resolve", body).await;
    let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(line["done"]["from"], "pushed", "{text}");
    assert_eq!(line["done"]["image"]["platforms"][0]["arch"], "x86_64", "{text}");
}

/// The parts made room for something else: the name alone must not lead to replicas that wait for
/// ever.
#[tokio::test]
async fn pushed_image_without_its_parts_is_refused() {
    let (one, two) = two().await;
    let platform = two.pushed("shop/till:3").await;
    two.service.artifacts.remove(&platform.layers[0].digest).await.unwrap();
    let body = r#"{"reference":"shop/till:3"}"#;
    let (_, text) = one.call(Method::POST, "/v1/images/resolve", body).await;
    assert!(text.contains("parts-gone") && text.contains("Push it again"), "{text}");
    let (_, text) = one.call(Method::POST, "/v1/images/resolve", r#"{"reference":"A b"}"#).await;
    assert!(text.contains("`A b` is no name of an image"), "{text}");
    let (_, text) = one.call(Method::POST, "/v1/images/resolve", r#"{"reference":"new"}"#).await;
    assert!(text.contains("is not pinned"), "{text}");
}

/// A used image is refused, an unused one goes from all nodes, and parts that another image shares
/// stay.
#[tokio::test]
async fn removal_leaves_what_is_used_or_shared() {
    let (one, two) = two().await;
    let used = one.pushed("used").await;
    let gone = two.pushed("gone").await;
    let shares = PlatformImage { config: used.config, ..gone.clone() };
    let body = PushedBody { name: "shares".into(), platforms: vec![gone.clone()] };
    two.service.pushed(body).await.unwrap();
    for world in [&one, &two] {
        world.runs("web", &used);
    }
    let remove = async |name: &str| {
        let body = format!(r#"{{"name":"{name}"}}"#);
        one.call(Method::POST, "/v1/images/remove", &body).await
    };
    let (status, text) = remove("used").await;
    assert_eq!(status, StatusCode::CONFLICT, "{text}");
    assert!(text.contains("is used by web; nothing was removed"), "{text}");
    assert!(one.holds(&used).await);
    let body = PushedBody { name: "alias".into(), platforms: vec![used.clone()] };
    one.service.pushed(body).await.unwrap();
    assert_eq!(remove("alias").await.0, StatusCode::OK);
    assert!(one.holds(&used).await, "its other name is used");
    assert_eq!(remove("gone").await.0, StatusCode::OK);
    assert!(two.holds(&gone).await, "the image `shares` has the same parts: {shares:?}");
    let (status, text) = remove("shares:latest").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains(r#""node":"n2","images":["shares"],"parts":2"#), "{text}");
    assert!(!two.holds(&gone).await);
    assert_eq!(remove("shares").await.0, StatusCode::NOT_FOUND);
}

/// A dry run removes nothing. Pruning removes bytes without a name; with `all` also images that
/// nobody runs; never what a workload names or a fresh upload.
#[tokio::test]
async fn prune_keeps_what_a_workload_or_an_upload_needs() {
    let (one, _two) = two().await;
    let (used, pushed) = (one.pushed("used").await, one.pushed("pushed").await);
    let (stray, fresh) = (holding(&one, "stray").await, holding(&one, "fresh").await);
    one.runs("web", &used);
    *one.core.pinned.lock().unwrap() = [fresh.config.digest, fresh.layers[0].digest].into();
    let prune = async |dry_run, all| {
        let body = serde_json::to_string(&PruneBody { dry_run, all }).unwrap();
        let (status, text) = one.call(Method::POST, "/v1/images/prune", &body).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let body: serde_json::Value = serde_json::from_str(&text).unwrap();
        body["freed"][0]["parts"].as_u64().unwrap_or(0)
    };
    assert_eq!((prune(true, false).await, prune(true, true).await), (2, 4));
    assert!(one.holds(&stray).await && one.holds(&pushed).await, "a dry run");
    assert_eq!(prune(false, false).await, 2);
    assert!(!one.holds(&stray).await && one.holds(&pushed).await);
    assert_eq!(prune(false, true).await, 2);
    assert!(!one.holds(&pushed).await);
    assert!(one.holds(&used).await && one.holds(&fresh).await);
}
