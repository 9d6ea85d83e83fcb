//! Target: manifests, as people and tools write them.

use std::path::Path;

use shoal_protocol::fuzzing::Target;

use super::{kubernetes, parse, quantity};

/// The text of a file.
pub const TARGET: Target = Target { name: "manifest", run, seeds, most: 4_096 };

fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match parse(&text, Path::new("/manifests")) {
        Ok(workloads) => {
            assert!(!workloads.is_empty(), "a file without a workload is an error");
            for workload in workloads {
                // An image by its name; the bytes of a file are not there.
                if let Ok(spec) = workload.spec(None) {
                    assert_eq!(&spec.name, workload.name());
                    _ = (spec.revision(), spec.later.options());
                }
            }
        }
        Err(error) => assert!(!error.to_string().is_empty(), "an error without a word"),
    }
    let files = vec![("a.yaml".to_owned(), text.clone().into_owned())];
    match kubernetes::load(files, None) {
        Ok(bundle) => {
            for item in bundle.workloads {
                assert!(item.workload.spec(None).is_ok(), "what is taken can be published");
            }
        }
        Err(refusal) => assert!(!refusal.problems.is_empty(), "a refusal without a reason"),
    }
    if let Ok(bytes) = quantity::size(&text) {
        assert!(quantity::size(&quantity::show_size(bytes)).is_ok(), "{bytes}");
    }
    _ = (quantity::memory(&text), quantity::count(&text));
    _ = (quantity::cpu(&text).map(quantity::show_cpu), quantity::duration(&text));
}

fn seeds() -> Vec<Vec<u8>> {
    let component = "name: hello\nnamespace: shop\nwasm: hello.wasm\nreplicas: 2\nmemory: 64MiB\n\
        cpu: 0.1\nenv: { GREETING: hi }\nrequire: { zone: shop }\n";
    let container = "name: db\nimage: postgres:17\nport: 5432\ncommand: [postgres, -c, a=b]\n\
        entrypoint: /bin/sh\nuser: 1:2\nworkdir: /w\nhostname: db\nlabels: { a: b }\n\
        network: bridge\ntmpfs: ['/t:size=1MiB,exec']\nstdin: true\ntty: true\nread_only: true\n\
        init: true\nports: ['127.0.0.1:8080:80/udp']\nvolumes: ['data:/var', '/srv:/w:ro']\n\
        volume_on_loss: empty\ndevices: [/dev/ttyUSB0]\ncap_add: [NET_ADMIN]\ncap_drop: [ALL]\n\
        security_opt: [no-new-privileges]\nprivileged: false\nstop_signal: SIGTERM\n\
        stop_grace: 1m30s\nshm_size: 1MiB\nulimits: { nofile: 1024:4096 }\n\
        sysctls: { net.core.somaxconn: 1 }\nextra_hosts: ['a:1.1.1.1']\ndns: [1.1.1.1]\n\
        group_add: [7]\nenv_from: { A: node }\npre_stop: [{ sleep: 1s }]\n\
        pull: always\nlimit: { memory: 1GiB, cpu: 2 }\n";
    let compose = "version: '3'\nservices:\n  web:\n    image: nginx\n    ports: ['80:80']\n";
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: { name: web }\nspec: {}\n";
    let anchors = "name: &a hello\nwasm: *a\nenv: &e { A: b }\nrequire: { <<: *e }\n";
    let objects = concat!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\nspec:\n",
        "  replicas: 010\n  selector: { matchLabels: { app: web } }\n  template:\n",
        "    metadata: { labels: { app: web } }\n    spec:\n",
        "      volumes: [{ name: v, configMap: { name: c } }]\n",
        "      containers: [{ name: a, image: a, args: [\"$(A)\"], env: [{ name: A, value: b }], ",
        "resources: { limits: { memory: 64Mi, cpu: 1e-1 } }, ",
        "volumeMounts: [{ name: v, mountPath: /v }], livenessProbe: { httpGet: { port: 80 } } }]\n",
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: { name: c }\ndata: { yes: a }\n",
        "--- # x\n{\"kind\":\"List\",\"apiVersion\":\"v1\",\"items\":[]}{}\n...\n",
    );
    let cron = "apiVersion: batch/v1\nkind: CronJob\nmetadata: { name: a }\nspec:\n  schedule: \
        '@every 1h'\n  jobTemplate: { spec: { template: { spec: { restartPolicy: Never, \
        containers: [{ name: a, image: a }] } } } }\n---\napiVersion: v1\nkind: Service\n\
        metadata: { name: s }\nspec: { selector: { a: b }, ports: [{ port: 80 }] }\n";
    let two = format!("{component}---\n{container}");
    let texts = [
        component, objects, cron, container, compose, pod, anchors, &two, "64MiB", "1h30m", "250m",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}
