//! Pods of several containers.

use super::{degraded, manifests, refusal, taken};

const POD: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: shop }
spec:
  selector: { matchLabels: { app: shop } }
  template:
    metadata: { labels: { app: shop } }
    spec:
      terminationGracePeriodSeconds: 5
      initContainers:
        - name: migrate
          image: migrate:1
          resources: { requests: { memory: 256Mi, cpu: 50m }, limits: { memory: 256Mi } }
          volumeMounts: [{ name: data, mountPath: /out }]
        - name: mesh
          image: mesh:2
          restartPolicy: Always
          resources: { requests: { memory: 32Mi, cpu: 100m }, limits: { memory: 64Mi } }
      containers:
        - name: app
          image: app:1
          env: [{ name: A, value: b }]
          securityContext: { runAsUser: 7 }
          resources: { requests: { memory: 64Mi, cpu: 200m }, limits: { memory: 128Mi } }
          readinessProbe: { httpGet: { path: /ready, port: http } }
          ports: [{ name: http, containerPort: 8080 }]
          volumeMounts: [{ name: data, mountPath: /data }, { name: fast, mountPath: /fast }]
        - name: logs
          image: logs:3
          args: [-f, /data/log]
          resources: { requests: { memory: 16Mi, cpu: 10m }, limits: { memory: 16Mi, cpu: 50m } }
          livenessProbe: { exec: { command: [/alive] } }
          volumeMounts:
            - { name: data, mountPath: /data, readOnly: true }
            - { name: fast, mountPath: /fast }
      volumes:
        - { name: data, emptyDir: {} }
        - { name: fast, emptyDir: { medium: Memory } }
---
apiVersion: v1
kind: Service
metadata: { name: shop }
spec: { selector: { app: shop }, ports: [{ port: 80, targetPort: http }] }
"#;

/// Each container keeps what is its own, and the replica reserves what all take at one time.
#[test]
fn pod_of_several_containers_is_a_group() {
    let text = manifests(POD);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for wanted in [
        "- name: app",
        "- name: migrate",
        "role: init",
        "- name: mesh",
        "role: sidecar",
        "- name: logs",
        "port: 8080",
        "A: b",
        "user: \"7\"",
        "command: [\"-f\", /data/log]",
        "exec: [/alive]",
    ] {
        assert!(lines.contains(&wanted), "{wanted}\n{text}");
    }
    let workload = taken(POD).workloads.remove(0).workload;
    let spec = workload.spec(None).unwrap();
    let reserved = spec.reservation();
    assert_eq!(
        (reserved.memory >> 20, reserved.cpu),
        (256, 310),
        "the init container, and the sum"
    );
    assert_eq!(spec.storage.len(), 2);
    assert!(spec.program.containers().iter().all(|it| it.stop_grace.is_some()));
    let mounts = spec.program.containers().iter().map(|it| it.mounts.len());
    assert_eq!(mounts.collect::<Vec<_>>(), [2, 1, 0, 2]);
    assert!(
        degraded(POD).iter().any(|it| it.contains("a folder in memory belongs to one container")),
        "{:?}",
        degraded(POD)
    );
}

/// A name that shoal cannot have is told with the rest.
#[test]
fn containers_of_one_name_are_refused() {
    let twice = POD.replace("name: logs", "name: app");
    let told = refusal(&twice);
    assert!(told.iter().any(|it| it.contains("two are called `app`")), "{told:?}");
    let own = POD.replace("image: logs:3", "image: logs:3\n          restartPolicy: Always");
    let told = refusal(&own);
    assert!(told.iter().any(|it| it.contains("the pod's own counts")), "{told:?}");
}
