//! The command line, from elsewhere: over the mesh's port of a node of a real cluster, with keys of
//! several roles.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use shoal::{Builder, Node};
use tempfile::TempDir;

/// Far above what any step takes on a busy machine: only a hang reaches it.
const TIME_LIMIT: Duration = Duration::from_secs(90);

fn builder(state: &Path, name: &str) -> Builder {
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let node = Node::builder().state(state).name(name).listen(local).http(local);
    node.mdns(false).engine("none").compiler(env!("CARGO_BIN_EXE_shoal"))
}

/// The text that a command printed, its errors behind its output, and its exit code.
async fn shoal(config: &Path, words: &[&str]) -> (String, i32) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_shoal"));
    for variable in ["SHOAL_VIA", "SHOAL_CONTEXT", "SHOAL_STATE", "SHOAL_SOCKET", "SHOAL_CONFIG"] {
        command.env_remove(variable);
    }
    let run = command.arg("--config").arg(config).args(words).output();
    let output = tokio::time::timeout(TIME_LIMIT, run).await.unwrap().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.code().unwrap())
}

/// Ann's laptop is no node. Her context leads to a node of the cluster; what she may is what her
/// role says, until it is revoked at another node.
#[tokio::test(flavor = "multi_thread")]
async fn laptop_operates_a_cluster_within_its_role() {
    let (one_home, two_home, laptop) =
        (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let one = builder(one_home.path(), "one").start().await.unwrap();
    let line = one.invite(1, Duration::from_secs(600)).await.unwrap();
    let two = builder(two_home.path(), "two").join(&line).start().await.unwrap();
    let admin = one_home.path().join("operator");
    let via = two.mesh().to_string();
    // The second node is a member only once it has joined.
    let joined = async {
        while shoal(&admin, &["--via", &via, "nodes"]).await.1 != 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TIME_LIMIT, joined).await.unwrap();

    let add = ["--via", &via, "-q", "operator", "add", "ann", "--role", "reader"];
    let (key, code) = shoal(&admin, &add).await;
    assert_eq!(code, 0, "{key}");
    let file = laptop.path().join("ann.json");
    std::fs::write(&file, key).unwrap();
    let (config, file) = (laptop.path().join("config"), file.to_str().unwrap());
    let note = ["context", "add", "shop", "--via", &via, "--operator", file];
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (text, code) = shoal(&config, &note).await;
    assert!(code == 1 && text.contains(&format!("chmod 600 {file}")), "{text}");
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(shoal(&config, &note).await.1, 0);
    assert_eq!(shoal(&config, &["context", "use", "shop"]).await.1, 0);

    let (text, code) = shoal(&config, &["nodes"]).await;
    assert!(code == 0 && text.contains("one") && text.contains("two"), "{text}");
    let (text, code) = shoal(&config, &["whoami"]).await;
    assert!(code == 0 && text.contains("node two") && text.contains("context shop"), "{text}");
    let (text, code) = shoal(&config, &["scale", "web=2"]).await;
    assert!(code == 4 && text.contains("ann is a reader"), "{text}");
    let (text, _) = shoal(&config, &["history"]).await;
    assert!(text.contains("given the role reader") && text.contains("through two"), "{text}");

    let socket = one.socket().to_str().unwrap();
    let (text, code) = shoal(&admin, &["--socket", socket, "revoke", "ann", "--why", "left"]).await;
    assert_eq!(code, 0, "{text}");
    let revoked = async {
        loop {
            let (text, code) = shoal(&config, &["ps"]).await;
            if code == 4 {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let text = tokio::time::timeout(TIME_LIMIT, revoked).await.unwrap();
    assert!(text.contains("the rights of operator ann") && text.contains("left"), "{text}");
}
