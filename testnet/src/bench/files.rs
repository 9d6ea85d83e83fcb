//! The time to read files of other tools, from the start of the process to its end, in turn with
//! the tools themselves. No daemon is asked.
//!
//! - `compose`: a project of 200 services, `shoal convert` beside `docker-compose config`;
//! - `kubernetes`: a rendered chart of some 2 MB, `shoal convert` beside `kubectl kustomize`, which
//!   reads and writes the same objects.

use std::fmt::Write;
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
const PARTS: usize = 1_000;

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

/// A project with what services mostly have.
fn services() -> String {
    let mut text = "name: large\nservices:\n".to_owned();
    for number in 0..SERVICES {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "  s{number}:\n    image: registry.example/app:${{TAG:-1}}\n    \
             command: [serve, --port, \"8080\", --name, s{number}]\n    \
             environment:\n      NAME: s{number}\n      LEVEL: ${{LEVEL:-info}}\n      \
             NUMBER: {number}\n    ports: [\"{}:8080\"]\n    expose: [\"9090\"]\n    \
             volumes: [\"data{number}:/data\", \"/etc/localtime:/etc/localtime:ro\"]\n    \
             mem_limit: 64m\n    restart: unless-stopped\n    labels: {{ team: a, tier: web }}\n    \
             healthcheck:\n      test: [CMD, check, --quick]\n      interval: 10s\n      \
             retries: 3\n    logging: {{ driver: json-file, options: {{ max-size: 10m }} }}\n",
            20_000 + number
        );
        if number > 0 {
            let _ = writeln!(text, "    depends_on: [s{}]", (number - 1) / 2);
        }
    }
    text.push_str("volumes:\n");
    for number in 0..SERVICES {
        let _ = writeln!(text, "  data{number}:");
    }
    text
}

/// The objects of a chart as helm prints them.
fn objects() -> String {
    let mut text = String::new();
    for number in 0..PARTS {
        let labels = format!("app.kubernetes.io/name: p{number}");
        let _ = write!(
            text,
            "---\n# Source: chart/templates/p{number}.yaml\napiVersion: v1\nkind: ConfigMap\n\
             metadata:\n  name: p{number}\n  labels:\n    {labels}\ndata:\n  settings: |\n    \
             listen = 0.0.0.0:8080\n    level = info\n    upstream = http://p{number}:8080/path\n    \
             timeout = 30s\n    greeting = a text of some length, as settings have them\n\
             ---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: p{number}\n  labels:\n    \
             {labels}\n    app.kubernetes.io/managed-by: Helm\nspec:\n  replicas: 2\n  selector:\n    \
             matchLabels:\n      {labels}\n  template:\n    metadata:\n      labels:\n        \
             {labels}\n    spec:\n      containers:\n        - name: main\n          \
             image: \"registry.example/app:1.2.3\"\n          imagePullPolicy: IfNotPresent\n          \
             args: [serve, --config, /etc/app/settings]\n          env:\n            \
             - name: NAME\n              value: \"p{number}\"\n            - name: SETTINGS\n              \
             valueFrom:\n                configMapKeyRef:\n                  name: p{number}\n                  \
             key: settings\n          ports:\n            - name: http\n              \
             containerPort: 8080\n              protocol: TCP\n          livenessProbe:\n            \
             httpGet:\n              path: /live\n              port: http\n          \
             readinessProbe:\n            httpGet:\n              path: /ready\n              \
             port: http\n          resources:\n            limits:\n              memory: 128Mi\n            \
             requests:\n              cpu: 100m\n              memory: 64Mi\n\
             ---\napiVersion: v1\nkind: Service\nmetadata:\n  name: p{number}\n  labels:\n    {labels}\n\
             spec:\n  type: ClusterIP\n  ports:\n    - port: 80\n      targetPort: http\n      \
             protocol: TCP\n      name: http\n  selector:\n    {labels}\n"
        );
    }
    text
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
