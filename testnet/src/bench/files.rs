//! The time to read files of other tools, from the start of the process to its end, in turn with
//! the tools themselves. No daemon is asked.
//!
//! - `compose`: a project of 200 services, `shoal convert` beside `docker-compose config`;
//! - `kubernetes`: a rendered chart of some 2 MB, `shoal convert` beside `kubectl kustomize`, which
//!   reads and writes the same objects.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{Against, Figures};
use crate::real::Options;

/// Services of the project.
const SERVICES: usize = 200;
/// Objects of the chart: a ConfigMap, a Deployment and a Service for each.
const PARTS: usize = 1_300;

/// A case: its name, our command and theirs.
struct Case {
    name: &'static str,
    against: &'static str,
    ours: Command,
    theirs: Command,
}

pub(super) fn measure(
    options: &Options,
    runs: u32,
    compose: &Path,
    kubectl: &Path,
) -> Result<Vec<Figures>> {
    let folder = std::env::temp_dir().join(format!("shoal-files-{}", std::process::id()));
    let measured = measured(options, runs, compose, kubectl, &folder);
    let _ = fs::remove_dir_all(&folder);
    measured
}

fn measured(
    options: &Options,
    runs: u32,
    compose: &Path,
    kubectl: &Path,
    folder: &Path,
) -> Result<Vec<Figures>> {
    let (project, chart) = (folder.join("project"), folder.join("chart"));
    fs::create_dir_all(&project)?;
    fs::create_dir_all(&chart)?;
    fs::write(project.join("compose.yaml"), services())?;
    fs::write(chart.join("all.yaml"), objects())?;
    fs::write(chart.join("kustomization.yaml"), "resources: [all.yaml]\n")?;
    let at = |program: &Path, folder: &PathBuf, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).current_dir(folder).stdin(Stdio::null());
        command
    };
    let cases = [
        Case {
            name: "compose",
            against: "docker-compose",
            ours: at(&options.binary, &project, &["convert", "compose.yaml"]),
            theirs: at(compose, &project, &["-f", "compose.yaml", "config"]),
        },
        Case {
            name: "kubernetes",
            against: "kubectl",
            ours: at(&options.binary, &chart, &["convert", "all.yaml"]),
            theirs: at(kubectl, &chart, &["kustomize", "."]),
        },
    ];
    let mut all = Vec::new();
    for Case { name, against, mut ours, mut theirs } in cases {
        let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            their_times.push(time(&mut theirs)?);
            our_times.push(time(&mut ours)?);
        }
        let figures = |case, goal, values| Figures {
            bench: "files",
            case,
            unit: "ms",
            goal,
            values,
            against: None,
        };
        let theirs = figures(against, "", their_times);
        let against = Some(Against { name: against, p50: theirs.percentile(50) });
        all.push(Figures { against, ..figures(name, "0.2 times the tool", our_times) });
        all.push(theirs);
    }
    Ok(all)
}

/// Milliseconds of a run.
fn time(command: &mut Command) -> Result<f64> {
    let shown = format!("{:?}", command.get_program());
    let begun = Instant::now();
    let out = command.output().with_context(|| shown.clone())?;
    let took = begun.elapsed();
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(out.status.success() && !out.stdout.is_empty(), "{shown} failed: {told}");
    Ok(took.as_secs_f64() * 1e3)
}

/// A service with what services mostly have.
const SERVICE: &str = "  s{n}:
    image: registry.example/app:${TAG:-1}
    command: [serve, --port, '8080', --name, s{n}]
    environment:
      NAME: s{n}
      LEVEL: ${LEVEL:-info}
      NUMBER: {n}
    ports: ['{port}:8080']
    expose: ['9090']
    volumes: ['data{n}:/data', '/etc/localtime:/etc/localtime:ro']
    mem_limit: 64m
    restart: unless-stopped
    labels: { team: a, tier: web }
    healthcheck:
      test: [CMD, check, --quick]
      interval: 10s
      retries: 3
    logging: { driver: json-file, options: { max-size: 10m } }
";
/// The objects of a part of a chart, as helm prints them.
const OBJECTS: &str = "---
# Source: chart/templates/p{n}.yaml
apiVersion: v1
kind: ConfigMap
metadata:
  name: p{n}
  labels:
    app.kubernetes.io/name: p{n}
data:
  settings: |
    listen = 0.0.0.0:8080
    level = info
    upstream = http://p{n}:8080/path
    timeout = 30s
    greeting = a text of some length, as settings have them
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: p{n}
  labels:
    app.kubernetes.io/name: p{n}
    app.kubernetes.io/managed-by: Helm
spec:
  replicas: 2
  selector:
    matchLabels:
      app.kubernetes.io/name: p{n}
  template:
    metadata:
      labels:
        app.kubernetes.io/name: p{n}
    spec:
      containers:
        - name: main
          image: 'registry.example/app:1.2.3'
          imagePullPolicy: IfNotPresent
          args: [serve, --config, /etc/app/settings]
          env:
            - name: NAME
              value: 'p{n}'
            - name: SETTINGS
              valueFrom:
                configMapKeyRef:
                  name: p{n}
                  key: settings
          ports:
            - name: http
              containerPort: 8080
              protocol: TCP
          livenessProbe:
            httpGet:
              path: /live
              port: http
          readinessProbe:
            httpGet:
              path: /ready
              port: http
          resources:
            limits:
              memory: 128Mi
            requests:
              cpu: 100m
              memory: 64Mi
---
apiVersion: v1
kind: Service
metadata:
  name: p{n}
  labels:
    app.kubernetes.io/name: p{n}
spec:
  type: ClusterIP
  ports:
    - port: 80
      targetPort: http
      protocol: TCP
      name: http
  selector:
    app.kubernetes.io/name: p{n}
";

fn services() -> String {
    let mut text = "name: large\nservices:\n".to_owned();
    for number in 0..SERVICES {
        let port = (20_000 + number).to_string();
        text += &SERVICE.replace("{n}", &number.to_string()).replace("{port}", &port);
        if number > 0 {
            text += &format!("    depends_on: [s{}]\n", (number - 1) / 2);
        }
    }
    text += "volumes:\n";
    text + &(0..SERVICES).map(|number| format!("  data{number}:\n")).collect::<String>()
}

fn objects() -> String {
    (0..PARTS).map(|number| OBJECTS.replace("{n}", &number.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_as_large_as_they_say() {
        assert_eq!(services().matches("    image:").count(), SERVICES);
        let bytes = objects().len();
        assert!((1_900_000..2_600_000).contains(&bytes), "{bytes}");
    }
}
