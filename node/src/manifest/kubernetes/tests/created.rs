//! What `kubectl create .. --dry-run=client -o yaml` prints, kind by kind, by kubectl 1.32: with
//! the empty parts that later versions leave out.

use super::*;

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  creationTimestamp: null
  labels:
    app: web
  name: web
spec:
  replicas: 3
  selector:
    matchLabels:
      app: web
  strategy: {}
  template:
    metadata:
      creationTimestamp: null
      labels:
        app: web
    spec:
      containers:
      - image: nginx
        name: nginx
        ports:
        - containerPort: 80
        resources: {}
status: {}
";
const JOB: &str = "\
apiVersion: batch/v1
kind: Job
metadata:
  creationTimestamp: null
  name: j
spec:
  template:
    metadata:
      creationTimestamp: null
    spec:
      containers:
      - command:
        - date
        image: busybox
        name: j
        resources: {}
      restartPolicy: Never
status: {}
";
const CRON_JOB: &str = "\
apiVersion: batch/v1
kind: CronJob
metadata:
  creationTimestamp: null
  name: j
spec:
  jobTemplate:
    metadata:
      creationTimestamp: null
      name: j
    spec:
      template:
        metadata:
          creationTimestamp: null
        spec:
          containers:
          - command:
            - date
            image: busybox
            name: j
            resources: {}
          restartPolicy: OnFailure
  schedule: '*/5 * * * *'
status: {}
";
/// `kubectl run p --image=nginx --port=80 --env=A=b`.
const POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  creationTimestamp: null
  labels:
    run: p
  name: p
spec:
  containers:
  - env:
    - name: A
      value: b
    image: nginx
    name: p
    ports:
    - containerPort: 80
    resources: {}
  dnsPolicy: ClusterFirst
  restartPolicy: Always
status: {}
";
/// `kubectl create service .. web --tcp=80:8080` with this type and port of the node.
fn service(kind: &str, port: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  creationTimestamp: null\n  labels:\n    \
         app: web\n  name: web\nspec:\n  ports:\n  - name: 80-8080\n{port}    port: 80\n    \
         protocol: TCP\n    targetPort: 8080\n  selector:\n    app: web\n  type: {kind}\n\
         status:\n  loadBalancer: {{}}\n"
    )
}
const INGRESS: &str = "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  creationTimestamp: null
  name: i
spec:
  rules:
  - host: shop.example
    http:
      paths:
      - backend:
          service:
            name: web
            port:
              number: 80
        path: /x
        pathType: Prefix
status:
  loadBalancer: {}
";
const CONFIG_MAP: &str = "\
apiVersion: v1
data:
  a: b
kind: ConfigMap
metadata:
  creationTimestamp: null
  name: c
";
const SECRET: &str = "\
apiVersion: v1
data:
  a: Yg==
kind: Secret
metadata:
  creationTimestamp: null
  name: s
";
const NAMESPACE: &str = "\
apiVersion: v1
kind: Namespace
metadata:
  creationTimestamp: null
  name: shop
spec: {}
status: {}
";
const BUDGET: &str = "\
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  creationTimestamp: null
  name: p
spec:
  minAvailable: 1
  selector:
    matchLabels:
      app: web
status:
  currentHealthy: 0
  desiredHealthy: 0
  disruptionsAllowed: 0
  expectedPods: 0
";
const PRIORITY: &str = "\
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata:
  creationTimestamp: null
  name: high
preemptionPolicy: PreemptLowerPriority
value: 1000
";
const ACCOUNT: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata:
  creationTimestamp: null
  name: a
";
const ROLE: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  creationTimestamp: null
  name: r
rules:
- apiGroups:
  - \"\"
  resources:
  - pods
  verbs:
  - get
";
const BINDING: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  creationTimestamp: null
  name: b
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: r
subjects:
- apiGroup: rbac.authorization.k8s.io
  kind: User
  name: u
";
const SCALER: &str = "\
apiVersion: autoscaling/v1
kind: HorizontalPodAutoscaler
metadata:
  creationTimestamp: null
  name: web
spec:
  maxReplicas: 10
  minReplicas: 1
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: web
  targetCPUUtilizationPercentage: 50
status:
  currentReplicas: 0
  desiredReplicas: 0
";
const QUOTA: &str = "\
apiVersion: v1
kind: ResourceQuota
metadata:
  creationTimestamp: null
  name: q
spec:
  hard:
    cpu: \"1\"
status: {}
";

/// No empty part says anything, and none is a fault.
#[test]
fn workloads_as_kubectl_creates_them_are_taken_without_a_word() {
    for (text, expected) in [
        (DEPLOYMENT, "name: web\nimage: nginx\nreplicas: 3\n"),
        (JOB, "name: j\nimage: busybox\nkind: job\n"),
        (POD, "name: p\nimage: nginx\n"),
    ] {
        assert!(manifests(text).starts_with(expected), "{}", manifests(text));
        assert_eq!(degraded(text), [""; 0]);
    }
    assert!(manifests(CRON_JOB).contains("schedule: \"*/5 * * * *\"\n"));
    let expected = "CronJob/j: spec.jobTemplate.metadata.name: runs are named by their tick";
    assert_eq!(degraded(CRON_JOB), [expected]);
}

/// What stands beside workloads is there, too, or people are told that it does nothing.
#[test]
fn other_kinds_as_kubectl_creates_them_are_taken() {
    let with = |text: &str| format!("{DEPLOYMENT}---\n{text}");
    for (kind, port) in
        [("ClusterIP", ""), ("NodePort", "    nodePort: 30080\n"), ("LoadBalancer", "")]
    {
        let text = manifests(&with(&service(kind, port)));
        assert!(text.contains("8080"), "{kind}: {text}");
    }
    for (text, expected) in [(CONFIG_MAP, "c-a"), (SECRET, "s-a")] {
        let names: Vec<_> = taken(text).values.iter().map(|it| it.name.to_string()).collect();
        assert_eq!(names, [expected]);
    }
    for text in [NAMESPACE, BUDGET, PRIORITY] {
        assert!(taken(text).workloads.is_empty(), "{text}");
    }
    for text in [ACCOUNT, ROLE, BINDING] {
        let [told] = &degraded(text)[..] else { panic!("{text}") };
        assert!(told.contains("there is no API of Kubernetes"), "{told}");
    }
    let told = degraded(&with(&format!("{}---\n{INGRESS}", service("ClusterIP", ""))));
    assert!(told.iter().any(|it| it.contains("not looked at: all paths lead")), "{told:?}");
}

/// The CPU of an autoscaler is a share of what is requested, as in the walk-through of php-apache.
#[test]
fn autoscaler_as_kubectl_creates_it_is_taken() {
    let requested = DEPLOYMENT.replace(
        "        resources: {}\n",
        "        resources:\n          requests:\n            cpu: 200m\n",
    );
    let text = manifests(&format!("{requested}---\n{SCALER}"));
    assert!(text.contains("min: 1") && text.contains("max: 10"), "{text}");
}

#[test]
fn kinds_that_would_change_what_may_happen_are_refused() {
    let external = "apiVersion: v1\nkind: Service\nmetadata:\n  creationTimestamp: null\n  \
        name: web\nspec:\n  externalName: a.example\n  selector:\n    app: web\n  \
        type: ExternalName\nstatus:\n  loadBalancer: {}\n";
    for (text, expected) in [(QUOTA, "a namespace has no quota"), (external, "the outer name")] {
        let told = refusal(text);
        assert!(told.len() == 1 && told[0].contains(expected), "{told:?}");
    }
}
