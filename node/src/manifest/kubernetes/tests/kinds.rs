//! Kinds of workloads, their updates, resources, rights and probes.

use super::*;

fn of(kind: &str, spec: &str, pod: &str) -> String {
    let api = if kind.ends_with("Job") { "batch/v1" } else { "apps/v1" };
    let selector = match kind.ends_with("Job") {
        true => "",
        false => "selector: { matchLabels: { app: a } }\n",
    };
    let template = format!(
        "{selector}template:\n  metadata: {{ labels: {{ app: a }} }}\n  spec:\n{}    \
         containers: [{{ name: a, image: \"a:1\" }}]\n",
        indented(pod, 4)
    );
    let below = match kind {
        "CronJob" => format!("{spec}\njobTemplate:\n  spec:\n{}", indented(&template, 4)),
        _ => format!("{template}{spec}"),
    };
    format!(
        "apiVersion: {api}\nkind: {kind}\nmetadata: {{ name: a }}\nspec:\n{}",
        indented(&below, 2)
    )
}

/// The parts of a manifest that are about kind and update.
fn parts(text: &str) -> String {
    let all = manifests(text);
    let common = "limit:\n  memory: 1024GiB\nreserve: none\n";
    let short = all.replace(common, "").replace("health: none\n", "");
    let short = short.replace("stop_grace: 30s\n", "").replace("labels:\n  app: a\n", "");
    short.replace("name: a\nimage: \"a:1\"\n", "")
}

#[test]
fn kinds_become_kinds() {
    let never = "restartPolicy: Never";
    for (kind, spec, pod, wanted) in [
        ("Deployment", "", "", "update:\n  parallel: 1\n"),
        (
            "Deployment",
            "replicas: 10\nminReadySeconds: 5\nprogressDeadlineSeconds: 60\npaused: yes",
            "",
            "replicas: 10\nupdate:\n  parallel: 3\n  min-ready: 5s\n  deadline: 60s\n  \
             paused: true\n",
        ),
        (
            "Deployment",
            "replicas: 10\nstrategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: 25% } }",
            "",
            "replicas: 10\nupdate:\n  parallel: 2\n  order: stop-first\n",
        ),
        (
            "Deployment",
            "replicas: 4\nstrategy: { type: Recreate }",
            "",
            "replicas: 4\nupdate:\n  parallel: 4\n  order: stop-first\n",
        ),
        (
            "StatefulSet",
            "replicas: 3\nserviceName: a\npodManagementPolicy: Parallel",
            "",
            "kind: stateful\norder: parallel\nreplicas: 3\nupdate:\n  parallel: 1\n  \
             order: stop-first\n",
        ),
        (
            "StatefulSet",
            "replicas: 5\nupdateStrategy: { rollingUpdate: { partition: 3 } }",
            "",
            "kind: stateful\nreplicas: 5\nupdate:\n  parallel: 1\n  order: stop-first\n  \
             canary: 2\n",
        ),
        ("DaemonSet", "", "", "kind: daemon\nupdate:\n  parallel: 1\n  order: stop-first\n"),
        ("Job", "", never, "kind: job\n"),
        (
            "Job",
            "completions: 4\nparallelism: 2\nbackoffLimit: 3\nactiveDeadlineSeconds: 60\n\
             ttlSecondsAfterFinished: 100",
            never,
            "kind: job\ncompletions: 4\nparallel: 2\nretries: 3\ndeadline: 60s\nkeep: 100s\n",
        ),
        (
            "Job",
            "completions: 3\ncompletionMode: Indexed",
            never,
            "kind: job\ncompletions: 3\nenv_from:\n  JOB_COMPLETION_INDEX: index\n",
        ),
        (
            "CronJob",
            "schedule: \"5/15 ? * * *\"\ntimeZone: Europe/Berlin\nconcurrencyPolicy: Forbid\n\
             startingDeadlineSeconds: 30\nsuspend: true",
            never,
            "schedule: \"5-59/15 * * * *\"\ntimezone: Europe/Berlin\nmissed: skip\n\
             overlap: forbid\nsuspend: true\n",
        ),
    ] {
        assert_eq!(parts(&of(kind, spec, pod)), wanted, "{kind}\n{spec}");
    }
}

#[test]
fn pods_are_services_or_jobs() {
    let pod = |restart: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{ name: a, labels: {{ app: a }} }}\nspec:\n  \
             {restart}\n  containers: [{{ name: a, image: \"a:1\" }}]\n"
        )
    };
    assert_eq!(parts(&pod("hostname: till")), "hostname: till\n");
    assert_eq!(parts(&pod("restartPolicy: Never")), "kind: job\nretries: 0\n");
    assert_eq!(parts(&pod("restartPolicy: OnFailure")), "kind: job\nretries: 100\n");
}

#[test]
fn kinds_that_mean_something_else_are_refused() {
    for (kind, spec, pod, wanted) in [
        (
            "Deployment",
            "",
            "restartPolicy: Never",
            "`Never`, and it runs for ever | Write `Always`",
        ),
        ("Job", "", "", "a job ends | Write `OnFailure` or `Never`."),
        ("Job", "suspend: true", "restartPolicy: Never", "a job here runs when it is published"),
        ("Job", "parallelism: 3", "restartPolicy: Never", "without `completions` each of them"),
        (
            "CronJob",
            "schedule: \"0 0 * * 7\"",
            "restartPolicy: Never",
            "Sunday is 0 for Kubernetes",
        ),
        ("CronJob", "schedule: \"61 0 * * *\"", "restartPolicy: Never", "minute: `61` is outside"),
        ("Deployment", "replicas: -1", "", "-1 is outside 0 to"),
        ("Deployment", "replicas: \"3\"", "", "\"3\" is a text"),
        ("Deployment", "strategy: { type: Sometimes }", "", "`Sometimes` is no strategy"),
        (
            "Deployment",
            "",
            "initContainers: [{ name: b, image: \"b:1\", restartPolicy: OnFailure }]",
            "`OnFailure`: an init container that fails is run again",
        ),
    ] {
        let told = refusal(&of(kind, spec, pod));
        assert_eq!(told.len(), 1, "{kind} {spec}: {told:?}");
        assert!(told[0].contains(wanted), "{kind} {spec}: {told:?}");
    }
    let other = of("Deployment", "", "").replace("labels: { app: a }", "labels: { app: b }");
    assert!(refusal(&other)[0].contains("does not find the pods of its own template"));
}

#[test]
fn container_is_written_out() {
    for (pod, container, wanted) in [
        ("", "command: [a, \"010\"]\nargs: [~, b]", "command: [\"\", b]\nentrypoint: [a, \"010\"]"),
        ("", "workingDir: /w\nstdin: true\ntty: on", "workdir: /w\nstdin: true\ntty: true"),
        ("terminationGracePeriodSeconds: 5", "", "stop_grace: 5s"),
        ("hostNetwork: true\nhostname: h", "", "hostname: h\nnetwork: host"),
        ("securityContext: { runAsUser: 1, runAsGroup: 2 }", "", "user: \"1:2\""),
        (
            "securityContext: { runAsUser: 1, runAsNonRoot: true }",
            "securityContext:\n  runAsUser: 3\n  readOnlyRootFilesystem: true\n  \
             allowPrivilegeEscalation: false\n  seccompProfile: { type: RuntimeDefault }\n  \
             capabilities: { add: [CAP_NET_ADMIN], drop: [ALL] }",
            "user: \"3\"\nread_only: true\ncap_add: [NET_ADMIN]\ncap_drop: [ALL]\n\
             security_opt: [no-new-privileges]",
        ),
        ("", "securityContext: { privileged: true }", "privileged: true"),
        (
            "securityContext: { sysctls: [{ name: net.core.somaxconn, value: \"1024\" }] }",
            "",
            "sysctls:\n  net.core.somaxconn: \"1024\"",
        ),
        (
            "hostAliases: [{ ip: 1.2.3.4, hostnames: [a, b.c] }, { ip: \"::1\", hostnames: [d] }]",
            "",
            "extra_hosts: [\"a:1.2.3.4\", \"b.c:1.2.3.4\", \"d:::1\"]",
        ),
        (
            "dnsPolicy: None\ndnsConfig: { nameservers: [1.1.1.1], searches: [a.b], options: [{ \
             name: ndots, value: \"2\" }, { name: edns0 }] }",
            "",
            "dns: [\"1.1.1.1\"]\ndns_search: [a.b]\ndns_opt: [\"ndots:2\", edns0]",
        ),
        (
            "securityContext: { supplementalGroups: [5, 7], fsGroup: 7 }",
            "",
            "group_add: [\"7\", \"5\"]",
        ),
        ("", "imagePullPolicy: Always", "pull: always"),
        ("", "lifecycle: { stopSignal: SIGUSR1 }", "stop_signal: SIGUSR1"),
        (
            "",
            "lifecycle:\n  postStart: { exec: { command: [a, b] } }\n  \
             preStop: { sleep: { seconds: 5 } }",
            "post_start: [{ command: [a, b] }]\npre_stop: [{ sleep: 5s }]",
        ),
    ] {
        let got = more(pod, container).join("\n");
        assert_eq!(got, wanted, "{pod}\n{container}");
    }
    let latest = deployment("", "").replace("nginx:1.27", "nginx");
    assert!(manifests(&latest).contains("pull: always"));
}

#[test]
fn resources_are_reserved_and_limited() {
    for (resources, wanted) in [
        ("{}", "limit:\n  memory: 1024GiB\nreserve: none\n"),
        ("{ requests: { memory: 128Mi } }", "memory: 128MiB\nlimit:\n  memory: 1024GiB\n"),
        ("{ limits: { memory: 128Mi } }", "memory: 128MiB\n"),
        (
            "{ requests: { cpu: 250m, memory: 64Mi }, limits: { cpu: 1, memory: 128Mi } }",
            "cpu: 0.25\nlimit:\n  memory: 128MiB\n  cpu: 1\n",
        ),
        ("{ requests: { cpu: 0.5 } }", "cpu: 0.5\nlimit:\n  memory: 1024GiB\n"),
        (
            "{ limits: { nvidia.com/gpu: 2, memory: 1.34217728e+08 } }",
            "memory: 128MiB\nresources:\n  nvidia.com/gpu: 2\n",
        ),
        (
            "{ requests: { memory: 64Mi, ephemeral-storage: 1Gi } }",
            "limit:\n  memory: 1024GiB\ndisk: 1GiB\n",
        ),
        ("{ requests: { memory: 1Mi } }", "memory: 6MiB\nlimit:\n  memory: 1024GiB\n"),
    ] {
        let all = manifests(&deployment("", &format!("resources: {resources}")));
        let rest = all.replace("name: web\nimage: \"nginx:1.27\"\n", "");
        let rest = rest.split("health: none").next().unwrap();
        assert_eq!(rest, wanted, "{resources}");
    }
    for (resources, wanted) in [
        ("{ limits: { memory: 100m } }", "this is a part of one byte"),
        ("{ limits: { memory: -1 } }", "there is no less than nothing"),
        ("{ limits: { nvidia.com/gpu: 0.5 } }", "a whole number is expected"),
        ("{ limits: { memory: 4Mi } }", "a container needs at least 6 MiB"),
        ("{ limits: { hugepages-2Mi: 4Mi } }", "pages of memory of a fixed size"),
    ] {
        let told = refusal(&deployment("", &format!("resources: {resources}")));
        assert!(told.len() == 1 && told[0].contains(wanted), "{resources}: {told:?}");
    }
}

#[test]
fn rights_that_shoal_cannot_keep_are_refused() {
    for (pod, container, wanted) in [
        ("securityContext: { runAsNonRoot: true }", "", "the user of the image is not known here"),
        (
            "securityContext: { runAsNonRoot: true }",
            "securityContext: { runAsUser: 0 }",
            "the user is 0, which is root",
        ),
        ("securityContext: { runAsGroup: 1 }", "", "a group without a user"),
        ("hostIPC: true", "", "it would share memory with the device"),
        ("runtimeClassName: gvisor", "", "the engine of the node runs it"),
        ("hostAliases: [{ ip: 1.2.3, hostnames: [a] }]", "", "`1.2.3` is no address"),
        ("hostAliases: [{ ip: 1.2.3.4, hostnames: [a b] }]", "", "extra_hosts: `a b` is no name"),
        ("dnsPolicy: None", "", "`None` needs name servers of its own"),
        ("securityContext: { supplementalGroups: [-1] }", "", "-1 is outside 0 to"),
        ("", "lifecycle: { postStart: { httpGet: { port: 80 } } }", "write an `exec`, of `wget`"),
        ("", "lifecycle: { preStop: { sleep: { seconds: 4000 } } }", "an hour is the most"),
        ("", "securityContext: { procMount: Unmasked }", "`/proc` is as the engine mounts it"),
        ("", "securityContext: { capabilities: { add: [\"a b\"] } }", "is no capability"),
    ] {
        let told = refusal(&deployment(pod, container));
        assert!(told.len() == 1 && told[0].contains(wanted), "{pod} {container}: {told:?}");
    }
    let empty = "hostAliases: []\nhostPID: false\nnodeSelector: {}\ntolerations: []\naffinity: {}";
    assert_eq!(more(empty, ""), [""; 0], "what templates print for nothing");
}

#[test]
fn probes_become_probes() {
    let ports = "ports: [{ name: http, containerPort: 8080 }]\n";
    for (probe, wanted) in [
        (
            "readinessProbe: { httpGet: { port: http } }",
            "  readiness:\n    http:\n      path: /\n      port: 8080",
        ),
        (
            "livenessProbe:\n  httpGet: { path: /live, port: 80, httpHeaders: [{ name: A, value: b \
             }] }\n  initialDelaySeconds: 3\n  periodSeconds: 5\n  timeoutSeconds: 2\n  \
             failureThreshold: 4",
            "  liveness:\n    http:\n      path: /live\n      port: 80\n      headers:\n        \
             A: b\n    every: 5s\n    timeout: 2s\n    failures: 4\n    delay: 3s",
        ),
        (
            "startupProbe: { tcpSocket: { port: 80 }, periodSeconds: 0 }",
            "  startup:\n    tcp:\n      port: 80",
        ),
        (
            "readinessProbe: { exec: { command: [cat, /ok] }, successThreshold: 2 }",
            "  readiness:\n    exec: [cat, /ok]\n    successes: 2",
        ),
    ] {
        let all = manifests(&deployment("", &format!("{ports}{probe}")));
        let health = all.split("health:\n").nth(1).unwrap().split("\nupdate").next().unwrap();
        assert_eq!(health, wanted, "{probe}");
    }
    for (probe, wanted) in [
        ("{ grpc: { port: 80 } }", "write `tcpSocket`"),
        ("{ httpGet: { port: htp } }", "no port of the container is called `htp` | Known are http"),
        ("{ httpGet: { port: \"8080\" } }", "In quotes it is a name; write it without: 8080"),
        ("{ httpGet: { port: 80, scheme: HTTPS } }", "probes ask over plain HTTP"),
        ("{ httpGet: { port: 80 }, tcpSocket: { port: 80 } }", "2 checks, and one of"),
        ("{ periodSeconds: 5 }", "0 checks, and one of"),
    ] {
        let told = refusal(&deployment("", &format!("{ports}livenessProbe: {probe}")));
        assert!(told.len() == 1 && told[0].contains(wanted), "{probe}: {told:?}");
    }
}
