//! Images that the engine has are taken out of it; images from parts are loaded ahead of their need
//! and leave when nothing needs them.

use std::io::Read;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use shoal_protocol::model::InstanceState;
use shoal_protocol::model::spec::{Image, NetworkMode};
use shoal_runtimes::artifacts::{ArtifactStore, Limits};
use shoal_runtimes::container::{Config, Containers};
use shoal_runtimes::images::{self, FoundImage};
use shoal_runtimes::{Runtime, Watch};

use crate::engines::harness::{TIMEOUT, launch};
use crate::engines::{Kind, TestEngine, own};

on_both! {
    image_goes_from_name_to_parts_and_back
}

/// An image that has a name in the engine.
const NAMED: &str = "localhost/shoal-test:1";

/// The names of all images of an engine.
fn names(engine: &TestEngine) -> Vec<String> {
    let images = engine.get("/images/json");
    let tags = images.as_array().unwrap().iter().filter_map(|image| image["RepoTags"].as_array());
    tags.flatten().filter_map(|tag| tag.as_str()).map(str::to_owned).collect()
}

/// Waits until the engine has an image of this name, or has none.
async fn until(engine: &TestEngine, name: &str, there: bool) {
    let begun = Instant::now();
    while names(engine).iter().any(|it| it == name) != there {
        assert!(begun.elapsed() < TIMEOUT, "{name} should be there: {there}; {:?}", names(engine));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn export(containers: &Containers, folder: &std::path::Path) -> FoundImage {
    let chunks = containers.export_image(NAMED).await.unwrap();
    let archive: Vec<bytes::Bytes> = chunks.try_collect().await.unwrap();
    let file = folder.join("exported.tar");
    std::fs::write(&file, archive.concat()).unwrap();
    images::read(&file, folder).unwrap().remove(0)
}

async fn ended(watch: &mut Watch, wanted: impl Fn(&InstanceState) -> bool) {
    loop {
        for status in watch.next().await {
            if wanted(&status.state) {
                return;
            }
            assert!(!status.state.ended(), "{status:?}");
        }
    }
}

/// An image of the engine becomes parts, the same each time. Wanted, it is loaded from them before
/// any instance starts; it stays while an instance uses it, and goes then, unlike the images of
/// people.
async fn image_goes_from_name_to_parts_and_back(kind: Kind) {
    let engine = own(kind, "images");
    let folder = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(folder.path().join("store"), Limits::default()).await.unwrap();
    let mut config = Config::new(format!("images-{}", std::process::id()), folder.path());
    config.socket = Some(engine.socket.clone());
    config.artifacts = Some(store.clone());
    config.images_kept = Duration::ZERO;
    let containers = Containers::new(config).await.unwrap();

    assert_eq!(containers.find_image("localhost/nothere:1").await.unwrap(), None);
    let found = containers.find_image(NAMED).await.unwrap().expect("the engine has it");
    assert_eq!(found.digest, None, "no registry has it");
    let exported = export(&containers, folder.path()).await;
    let platform = exported.one_per_arch()[0].clone();
    let again = export(&containers, folder.path()).await;
    assert_eq!(again.one_per_arch()[0].image, platform.image, "the same bytes each time");
    for part in &platform.parts {
        let mut bytes = Vec::new();
        part.open().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(store.put(bytes).await.unwrap(), part.artifact.digest);
    }

    let loaded = format!("localhost/shoal:{}", platform.image.config.digest);
    let image = Image { platforms: vec![platform.image], ..Image::named(NAMED) };
    containers.want_images(vec![image.clone()]);
    until(engine, &loaded, true).await;
    let launch = launch("images", NAMED, |container| {
        container.image = image.clone();
        container.network = NetworkMode::None;
        container.http = None;
    });
    let (id, mut watch) = (launch.id.clone(), containers.watch());
    containers.start(launch).await.unwrap();
    tokio::time::timeout(TIMEOUT, ended(&mut watch, InstanceState::is_running)).await.unwrap();
    containers.want_images(Vec::new());
    assert_eq!(containers.prune_images(false).await.unwrap(), [], "an instance uses it");
    until(engine, &loaded, true).await;
    containers.stop(&id, Duration::ZERO).await.unwrap();
    let listed = containers.prune_images(true).await.unwrap();
    assert_eq!(listed.iter().map(|it| &it.name).collect::<Vec<_>>(), [&loaded]);
    until(engine, &loaded, true).await;
    assert_eq!(containers.prune_images(false).await.unwrap(), listed);
    until(engine, &loaded, false).await;
    assert!(names(engine).iter().any(|name| name == NAMED), "{:?}", names(engine));

    containers.want_images(vec![image]);
    until(engine, &loaded, true).await;
    containers.want_images(Vec::new());
    until(engine, &loaded, false).await;
    assert!(names(engine).iter().any(|name| name == NAMED), "{:?}", names(engine));
}
