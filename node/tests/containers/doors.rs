//! The tutorials of Compose and Kubernetes, with images of the tests: published from files through
//! the command line, as people would.

use super::cli::{self, Ended};
use super::*;

/// A node on an engine, and the folder of the files.
struct Place {
    engine: &'static TestEngine,
    home: tempfile::TempDir,
    node: Node,
}

impl Place {
    async fn new(kind: Kind) -> Place {
        let (engine, home) = (shared(kind), tempfile::tempdir().unwrap());
        let node = start(&home.path().join("one"), engine.socket.to_str().unwrap(), None).await;
        let place = Place { engine, home, node };
        until("the engine is known", async || {
            let nodes = place.node.nodes().await.map_err(|error| error.to_string())?;
            let has = nodes.iter().any(|it| it.runtimes.iter().any(|it| it != "wasm"));
            if has { Ok(()) } else { Err(format!("{nodes:?}")) }
        })
        .await;
        place
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    async fn shoal(&self, words: &[&str]) -> Ended {
        let config = self.home.path().join("one").join("operator");
        cli::shoal((self.home.path(), &config, self.node.socket()), words, "").await
    }

    /// The answer of a workload at the node's HTTP port.
    async fn get(&self, host: &str, path: &str) -> Result<String, String> {
        let told = |error: std::io::Error| error.to_string();
        let stream = tokio::net::TcpStream::connect(self.node.http()).await;
        let mut stream = stream.map_err(told)?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}.localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(told)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(told)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
            _ => Err(answer),
        }
    }

    /// Waits until an answer has this text.
    async fn answers(&self, host: &str, path: &str, text: &str) {
        until(&format!("{host}{path} has `{text}`"), async || {
            let answer = self.get(host, path).await?;
            if answer.contains(text) { Ok(()) } else { Err(answer) }
        })
        .await;
    }

    async fn runs(&self, name: &str, replicas: usize) {
        let name: WorkloadName = name.parse().unwrap();
        let healthy = self.node.healthy(&name);
        tokio::time::timeout(TIME_LIMIT, healthy).await.expect("it runs").unwrap();
        let view = self.node.workload(&name).await.unwrap();
        let good = view.replicas.iter().filter(|it| it.phase == "healthy").count();
        assert_eq!(good, replicas, "{:?}", view.replicas);
    }

    async fn end(self) {
        let owner = self.node.id().to_string();
        self.node.stop_for(Duration::ZERO).await;
        self.engine.clear(&owner);
    }
}

const SHOP: &str = "\
name: shop
services:
  web:
    image: localhost/shoal-test:1
    environment: { NAME: '${GREETED:-compose}', PLAIN: 010 }
    env_file: web.env
    depends_on:
      db: { condition: service_healthy }
      migrate: { condition: service_completed_successfully }
    healthcheck:
      test: [CMD, /server, fetch, '127.0.0.1:8080']
      interval: 1s
      timeout: 5s
      retries: 3
      start_period: 10s
    configs: [{ source: site, target: /etc/site.conf, mode: 0440 }]
    secrets: [token]
    volumes: ['./etc:/etc/own:ro']
    tmpfs: /scratch
    read_only: true
    stop_grace_period: 1s
    deploy:
      mode: replicated
      replicas: 2
      resources:
        limits: { cpus: '0.50', memory: 32M }
        reservations: { cpus: '0.05', memory: 16M }
      restart_policy: { condition: any, delay: 5s, max_attempts: 3, window: 120s }
      update_config: { parallelism: 1, delay: 10s, order: start-first, failure_action: rollback }
    x-shoal: { port: 8080 }
  migrate:
    image: localhost/shoal-test:1
    command: [fetch, 'db:8080']
    depends_on: { db: { condition: service_healthy } }
    mem_limit: 16m
  db:
    image: localhost/shoal-test:1
    volumes: ['data:/data']
    healthcheck: { test: [CMD, /server, fetch, '127.0.0.1:8080'], interval: 1s }
    expose: ['8080']
    mem_limit: 32m
    stop_grace_period: 1s
volumes:
  data:
configs:
  site: { content: 'of the config' }
secrets:
  token: { file: ./token.txt }
";

/// Two replicas with their limits, after a database that is healthy and a job that has ended;
/// config, secret, files of the publisher, files in memory; an update; the data outlives it.
async fn project_of_compose_runs(kind: Kind) {
    let place = Place::new(kind).await;
    place.write("shop/compose.yaml", SHOP);
    place.write("shop/web.env", "FILED='of the file'\n");
    place.write("shop/token.txt", "of the secret");
    place.write("shop/etc/a.conf", "of the folder");
    // Settings of a program: no part of the project.
    place.write("shop/prometheus.yml", "scrape_configs: []\n");
    let told = place.shoal(&["publish", "-f", "shop", "--yes"]).await;
    told.says(0, &["not read are prometheus.yml", "config shop/site"]);
    place.runs("shop/db", 1).await;
    place.runs("shop/web", 2).await;
    let migrate = place.node.workload(&"shop/migrate".parse().unwrap()).await.unwrap();
    assert_eq!(migrate.kind, "job", "{migrate:?}");
    assert_eq!(running(place.engine, &place.node).len(), 3);

    place.answers("web.shop", "/", "hello, compose").await;
    place.answers("web.shop", "/env", "FILED=of the file\n").await;
    place.answers("web.shop", "/env", "PLAIN=8\n").await;
    place.answers("web.shop", "/read?/etc/site.conf", "of the config").await;
    place.answers("web.shop", "/read?/run/secrets/token", "of the secret").await;
    place.answers("web.shop", "/write?/run/secrets/token", "ead-only file system").await;
    place.answers("web.shop", "/read?/etc/own/a.conf", "of the folder").await;
    place.answers("web.shop", "/write?/scratch/a", "written").await;
    place.answers("web.shop", "/write?/etc/a", "ead-only file system").await;
    place.answers("web.shop", "/fetch?db:8080", "SHOAL_REPLICA=shop/db/0").await;
    for container in place.engine.containers(&place.node.id().to_string()) {
        let id = container["Id"].as_str().unwrap();
        let limits = &place.engine.get(&format!("/containers/{id}/json"))["HostConfig"];
        let is_web = container["Labels"]["shoal.workload"] == "shop/web";
        if is_web {
            assert_eq!(limits["Memory"], 32 << 20, "{limits}");
        }
    }

    let again = place.shoal(&["publish", "-f", "shop", "--yes"]).await;
    again.says(0, &["0 to change, 0 to remove, 3 unchanged"]);
    let renamed = SHOP.replace("compose}", "updated}").replace("of the config", "a new config");
    place.write("shop/compose.yaml", &renamed);
    place.shoal(&["publish", "-f", "shop", "--yes"]).await.says(0, &["shop/web"]);
    place.runs("shop/web", 2).await;
    place.answers("web.shop", "/", "hello, updated").await;
    place.answers("web.shop", "/read?/etc/site.conf", "a new config").await;
    place.end().await;
}

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: nginx-deployment
  labels: { app: nginx }
spec:
  replicas: 3
  selector: { matchLabels: { app: nginx } }
  template:
    metadata: { labels: { app: nginx } }
    spec:
      containers:
        - name: nginx
          image: localhost/shoal-test:1
          env: [{ name: NAME, value: nginx }]
          ports: [{ containerPort: 8080 }]
---
apiVersion: v1
kind: Service
metadata: { name: front }
spec:
  selector: { app: nginx }
  ports: [{ protocol: TCP, port: 80, targetPort: 8080 }]
";

/// Three replicas behind a Service, scaled as `kubectl scale` does, by the file.
async fn deployment_with_a_service_answers(kind: Kind) {
    let place = Place::new(kind).await;
    place.write("web.yaml", WEB);
    place.shoal(&["publish", "-f", "web.yaml", "--yes"]).await.says(0, &["nginx-deployment"]);
    place.runs("nginx-deployment", 3).await;
    assert_eq!(running(place.engine, &place.node).len(), 3);
    place.answers("nginx-deployment", "/", "hello, nginx").await;
    place.answers("nginx-deployment", "/fetch?nginx-deployment:8080", "NAME=nginx").await;
    for name in ["front", "front.default.svc.cluster.local"] {
        place.answers("nginx-deployment", &format!("/fetch?{name}:80"), "NAME=nginx").await;
    }
    place.write("web.yaml", &WEB.replace("replicas: 3", "replicas: 1"));
    place.shoal(&["publish", "-f", "web.yaml", "--yes"]).await.says(0, &["replicas"]);
    until("one is left", async || match running(place.engine, &place.node).len() {
        1 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    place.end().await;
}

const SCALED: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: { name: php-apache }
spec:
  selector: { matchLabels: { run: php-apache } }
  template:
    metadata: { labels: { run: php-apache } }
    spec:
      containers:
        - name: php-apache
          image: localhost/shoal-test:1
          ports: [{ containerPort: 8080 }]
          resources: { limits: { cpu: 500m }, requests: { cpu: 200m } }
---
apiVersion: v1
kind: Service
metadata: { name: php-apache, labels: { run: php-apache } }
spec:
  ports: [{ port: 80, targetPort: 8080 }]
  selector: { run: php-apache }
---
apiVersion: autoscaling/v1
kind: HorizontalPodAutoscaler
metadata: { name: php-apache }
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: php-apache }
  minReplicas: 2
  maxReplicas: 3
  targetCPUUtilizationPercentage: 50
";

/// The walk-through of the autoscaler: it rules over the replicas that the file does not name.
async fn autoscaler_rules_over_a_deployment(kind: Kind) {
    let place = Place::new(kind).await;
    place.write("php.yaml", SCALED);
    place.shoal(&["publish", "-f", "php.yaml", "--yes"]).await.says(0, &["php-apache"]);
    place.runs("php-apache", 2).await;
    let told = place.shoal(&["describe", "php-apache"]).await;
    told.says(0, &["2 to 3, 50% of the reserved CPU"]);
    place.end().await;
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn project_of_compose_runs_on_docker() {
    engines::run(project_of_compose_runs(Kind::Docker));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn project_of_compose_runs_on_podman() {
    engines::run(project_of_compose_runs(Kind::Podman));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn deployment_with_a_service_answers_on_docker() {
    engines::run(deployment_with_a_service_answers(Kind::Docker));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn deployment_with_a_service_answers_on_podman() {
    engines::run(deployment_with_a_service_answers(Kind::Podman));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn autoscaler_rules_over_a_deployment_on_docker() {
    engines::run(autoscaler_rules_over_a_deployment(Kind::Docker));
}

#[test]
#[ignore = "needs engines: cargo testnet check --engines"]
fn autoscaler_rules_over_a_deployment_on_podman() {
    engines::run(autoscaler_rules_over_a_deployment(Kind::Podman));
}
