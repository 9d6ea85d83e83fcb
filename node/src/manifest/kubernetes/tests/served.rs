//! Objects as an API server gives them: `kubectl get -o yaml`.

use super::*;

/// `kubectl get pod web-7c5ddbdf54-x2k9q -o yaml`.
const POD: &str = r#"apiVersion: v1
kind: Pod
metadata:
  annotations:
    cni.projectcalico.org/podIP: 10.1.4.7/32
  creationTimestamp: "2026-11-20T08:00:00Z"
  generateName: web-7c5ddbdf54-
  generation: 1
  labels:
    app: web
    pod-template-hash: 7c5ddbdf54
  name: web-7c5ddbdf54-x2k9q
  namespace: default
  ownerReferences:
  - apiVersion: apps/v1
    blockOwnerDeletion: true
    controller: true
    kind: ReplicaSet
    name: web-7c5ddbdf54
    uid: 5c1f4a3e-8f5e-4f0a-9b5e-0c7f3e6f1a2b
  resourceVersion: "48213"
  uid: 0f0c7a3c-1f2d-4f4e-9d0b-6a6c8b9e1d10
spec:
  containers:
  - image: nginx:1.27
    imagePullPolicy: IfNotPresent
    name: nginx
    ports:
    - containerPort: 80
      protocol: TCP
    resources: {}
    terminationMessagePath: /dev/termination-log
    terminationMessagePolicy: File
    volumeMounts:
    - mountPath: /var/run/secrets/kubernetes.io/serviceaccount
      name: kube-api-access-7wq2m
      readOnly: true
  dnsPolicy: ClusterFirst
  enableServiceLinks: true
  nodeName: worker-2
  preemptionPolicy: PreemptLowerPriority
  priority: 0
  restartPolicy: Always
  schedulerName: default-scheduler
  securityContext: {}
  serviceAccount: default
  serviceAccountName: default
  terminationGracePeriodSeconds: 30
  tolerations:
  - effect: NoExecute
    key: node.kubernetes.io/not-ready
    operator: Exists
    tolerationSeconds: 300
  - effect: NoExecute
    key: node.kubernetes.io/unreachable
    operator: Exists
    tolerationSeconds: 300
  volumes:
  - name: kube-api-access-7wq2m
    projected:
      defaultMode: 420
      sources:
      - serviceAccountToken:
          expirationSeconds: 3607
          path: token
      - configMap:
          items:
          - key: ca.crt
            path: ca.crt
          name: kube-root-ca.crt
      - downwardAPI:
          items:
          - fieldRef:
              apiVersion: v1
              fieldPath: metadata.namespace
            path: namespace
status:
  conditions:
  - lastProbeTime: null
    status: "True"
    type: Ready
  containerStatuses:
  - containerID: containerd://3f
    image: docker.io/library/nginx:1.27
    ready: true
    restartCount: 0
  hostIP: 192.168.1.12
  phase: Running
  podIP: 10.1.4.7
  qosClass: BestEffort
"#;

/// `kubectl get deploy web -o yaml`.
const DEPLOYMENT: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata:
  annotations:
    deployment.kubernetes.io/revision: "1"
  creationTimestamp: "2026-11-20T08:00:00Z"
  generation: 1
  labels:
    app: web
  managedFields:
  - apiVersion: apps/v1
    fieldsType: FieldsV1
    fieldsV1:
      f:metadata: {}
    manager: kubectl-create
    operation: Update
    time: "2026-11-20T08:00:00Z"
  name: web
  namespace: default
  resourceVersion: "48230"
  uid: 7a0b8f5c-9b1e-4b7e-8a63-9a6f6f1c2d34
spec:
  progressDeadlineSeconds: 600
  replicas: 1
  revisionHistoryLimit: 10
  selector:
    matchLabels:
      app: web
  strategy:
    rollingUpdate:
      maxSurge: 25%
      maxUnavailable: 25%
    type: RollingUpdate
  template:
    metadata:
      creationTimestamp: null
      labels:
        app: web
    spec:
      containers:
      - image: nginx:1.27
        imagePullPolicy: IfNotPresent
        name: nginx
        resources: {}
        terminationMessagePath: /dev/termination-log
        terminationMessagePolicy: File
      dnsPolicy: ClusterFirst
      restartPolicy: Always
      schedulerName: default-scheduler
      securityContext: {}
      terminationGracePeriodSeconds: 30
status:
  availableReplicas: 1
  observedGeneration: 1
  readyReplicas: 1
"#;

const SET: &str = r#"apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: web-7c5ddbdf54
  ownerReferences:
  - { apiVersion: apps/v1, controller: true, kind: Deployment, name: web, uid: a }
spec: {}
status: { replicas: 1 }
"#;

#[test]
fn pod_of_a_cluster_is_taken_with_one_word_about_its_additions() {
    let manifest = manifests(POD);
    assert_eq!(
        manifest,
        "name: web-7c5ddbdf54-x2k9q\nimage: \"nginx:1.27\"\nlimit:\n  memory: 1024GiB\n\
         reserve: none\nhealth: none\nlabels:\n  app: web\nstop_grace: 30s\nexposed: [80]\n"
    );
    assert_eq!(
        degraded(POD),
        [
            "Pod/web-7c5ddbdf54-x2k9q: metadata: read from a cluster, and left out is what it \
             added: the node that it ran on, its token for the API",
            "Pod/web-7c5ddbdf54-x2k9q: metadata.annotations: nothing here reads them, but for \
             hooks of Helm",
        ]
    );
    // A node that a person names counts.
    let written = POD.split("status:\n").next().unwrap();
    let told = refusal(written);
    assert!(told.len() == 1 && told[0].contains("spec.nodeName"), "{told:?}");
}

#[test]
fn deployment_of_a_cluster_is_taken_without_a_word() {
    assert_eq!(degraded(DEPLOYMENT), [""; 0]);
    assert!(manifests(DEPLOYMENT).starts_with("name: web\nimage: \"nginx:1.27\"\n"));
}

/// `kubectl get all -o yaml` has what controllers made, too: two workloads would run in place of
/// the one that is meant.
#[test]
fn what_another_object_of_the_files_makes_is_left_out() {
    let all = taken(&[POD, SET, DEPLOYMENT].join("---\n"));
    let names: Vec<_> = all.workloads.iter().map(|it| it.workload.name().to_string()).collect();
    assert_eq!(names, ["web"]);
    let less = degraded(&[POD, SET, DEPLOYMENT].join("---\n"));
    assert_eq!(
        less,
        [
            "Pod/web-7c5ddbdf54-x2k9q: left out: Deployment/web of the same files makes it",
            "ReplicaSet/web-7c5ddbdf54: left out: Deployment/web of the same files makes it",
        ]
    );
    assert!(refusal(SET)[0].contains("Publish the Deployment."), "alone it means nothing here");
}

#[test]
fn claim_that_a_cluster_bound_is_a_volume_here() {
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  annotations:\n    \
        pv.kubernetes.io/bind-completed: \"yes\"\n    \
        volume.kubernetes.io/storage-provisioner: rancher.io/local-path\n  \
        finalizers:\n  - kubernetes.io/pvc-protection\n  name: data\nspec:\n  \
        accessModes:\n  - ReadWriteOnce\n  resources:\n    requests:\n      storage: 1Gi\n  \
        volumeMode: Filesystem\n  volumeName: pvc-0b1c\nstatus:\n  phase: Bound\n";
    let told = degraded(claim);
    assert!(told.len() == 1 && told[0].contains("the volume that it was bound to"), "{told:?}");
    let written = claim.replace("status:\n  phase: Bound\n", "");
    assert!(refusal(&written).iter().any(|it| it.contains("volumeName")));
}
