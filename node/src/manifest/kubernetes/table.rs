//! The fields of each kind, and what becomes of them. The page docs/kubernetes.md is made of it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::super::verdict::Verdict::{Degraded, Honoured, Refused};
use super::super::verdict::{Row, Table, row};
use super::rows::{
    CONTAINER, FILES, KEY, NODE_TERM, POD, POD_TERM, PROBE, PROFILE, SELECTOR, SOURCES,
};

/// What becomes of the objects of a kind.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// Its fields say it.
    Read,
    /// They are left out, for this reason.
    LeftOut(&'static str),
    /// They are refused, for this reason, and with this mend.
    Refused(&'static str, &'static str),
}

/// A kind of objects.
#[derive(Debug)]
pub(super) struct Kind {
    pub name: &'static str,
    /// Its APIs, the newest first.
    pub apis: &'static [&'static str],
    pub is_namespaced: bool,
    pub fate: Fate,
    /// What it becomes, for the page.
    pub becomes: &'static str,
    pub rows: &'static [Row],
    /// Where a pod is described.
    pub pod: Option<&'static str>,
}

impl Kind {
    /// Its rows by their paths.
    pub fn table(&self) -> &'static Table {
        static TABLES: LazyLock<BTreeMap<&'static str, Table>> =
            LazyLock::new(|| KINDS.iter().map(|kind| (kind.name, whole(kind))).collect());
        static NONE: LazyLock<Table> = LazyLock::new(Table::new);
        TABLES.get(self.name).unwrap_or(&NONE)
    }
}

fn whole(kind: &Kind) -> Table {
    let mut table = Table::new().takes_empty().with("", OBJECT).with("", kind.rows);
    if kind.name == "CronJob" {
        table = table.with("spec.jobTemplate", JOB);
    }
    for (path, rows) in shared(kind) {
        table = table.with(&path, rows);
    }
    table
}

/// The rows that kinds share, and where they stand in this one.
fn shared(kind: &Kind) -> Vec<(String, &'static [Row])> {
    let Some(pod) = kind.pod else { return Vec::new() };
    let below = |path: &str| match pod {
        "" => path.to_owned(),
        pod => format!("{pod}.{path}"),
    };
    let mut all: Vec<(String, &'static [Row])> = Vec::new();
    if !pod.is_empty() {
        all.push((pod.to_owned(), TEMPLATE));
    }
    all.push((pod.to_owned(), POD));
    for of in ["containers", "initContainers"] {
        let path = below(&format!("spec.{of}.*"));
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            all.push((format!("{path}.{probe}"), PROBE));
        }
        for reference in ["configMapKeyRef", "secretKeyRef"] {
            all.push((format!("{path}.env.*.valueFrom.{reference}"), KEY));
        }
        for profile in ["seccompProfile", "appArmorProfile"] {
            all.push((format!("{path}.securityContext.{profile}"), PROFILE));
        }
        all.push((path, CONTAINER));
    }
    for profile in ["seccompProfile", "appArmorProfile"] {
        all.push((below(&format!("spec.securityContext.{profile}")), PROFILE));
    }
    let volumes = below("spec.volumes.*");
    for of in ["configMap", "secret", "projected.sources.*.configMap", "projected.sources.*.secret"]
    {
        all.push((format!("{volumes}.{of}"), FILES));
    }
    all.push((volumes, SOURCES));
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let nodes = below("spec.affinity.nodeAffinity");
    all.push((format!("{nodes}.{required}.nodeSelectorTerms.*"), NODE_TERM));
    all.push((format!("{nodes}.{preferred}.*.preference"), NODE_TERM));
    all.push((format!("{nodes}.{preferred}.*"), WEIGHT));
    for of in ["podAffinity", "podAntiAffinity"] {
        let pods = below(&format!("spec.affinity.{of}"));
        for term in [format!("{required}.*"), format!("{preferred}.*.podAffinityTerm")] {
            all.push((format!("{pods}.{term}.labelSelector"), SELECTOR));
            all.push((format!("{pods}.{term}"), POD_TERM));
        }
        all.push((format!("{pods}.{preferred}.*"), WEIGHT));
    }
    all
}

const WEIGHT: &[Row] = &[row("weight", Honoured, "from 1 to 100")];

/// The kind of a name.
pub(super) fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// Fields of every object.
pub(super) const OBJECT: &[Row] = &[
    row("apiVersion", Honoured, "says which fields there are"),
    row("kind", Honoured, "says what it is"),
    row("metadata.name", Honoured, "the name; a `.` in it becomes `-`"),
    row("metadata.namespace", Honoured, "the namespace"),
    row("metadata.labels", Honoured, "found by selectors of the same files"),
    row("metadata.annotations", Degraded, "nothing here reads them, but for hooks of Helm"),
    row("metadata.finalizers", Degraded, "nothing waits when it is removed"),
    row("metadata.ownerReferences", Degraded, "nothing is removed with another object"),
    row("metadata.generateName", Degraded, "the `name` counts"),
];

/// Fields of a template besides those of the pod.
pub(super) const TEMPLATE: &[Row] = &[
    row("metadata.name", Degraded, "replicas are named by their workload"),
    row("metadata.namespace", Degraded, "that of the object counts"),
    row("metadata.labels", Honoured, "`labels` of the container, and found by selectors"),
    row("metadata.annotations", Degraded, "nothing here reads them"),
    row("metadata.finalizers", Degraded, "nothing waits when a replica ends"),
];

const DEPLOYMENT: &[Row] = &[
    row("spec.replicas", Honoured, "`replicas`"),
    row("spec.selector", Honoured, "must fit the labels of `template`"),
    row("spec.strategy.type", Honoured, "`RollingUpdate`, or `Recreate`: all stop first"),
    row("spec.strategy.rollingUpdate.maxSurge", Honoured, "`update.parallel`, start-first"),
    row(
        "spec.strategy.rollingUpdate.maxUnavailable",
        Honoured,
        "`update.parallel`, stop-first, where `maxSurge` is 0",
    ),
    row("spec.minReadySeconds", Honoured, "`update.min-ready`"),
    row("spec.progressDeadlineSeconds", Honoured, "`update.deadline`"),
    row("spec.paused", Honoured, "`update.paused`"),
    row("spec.revisionHistoryLimit", Degraded, "`shoal history` keeps its own number"),
];

const STATEFUL_SET: &[Row] = &[
    row("spec.replicas", Honoured, "`replicas`"),
    row("spec.selector", Honoured, "must fit the labels of `template`"),
    row("spec.serviceName", Honoured, "replicas are `NAME-0.NAME.NAMESPACE.shoal`"),
    row("spec.podManagementPolicy", Honoured, "`order`"),
    row("spec.updateStrategy.type", Honoured, "`OnDelete`: `update.paused`"),
    row("spec.updateStrategy.rollingUpdate.partition", Honoured, "`update.canary`"),
    row("spec.updateStrategy.rollingUpdate.maxUnavailable", Honoured, "`update.parallel`"),
    row("spec.minReadySeconds", Honoured, "`update.min-ready`"),
    row("spec.revisionHistoryLimit", Degraded, "`shoal history` keeps its own number"),
    row(
        "spec.persistentVolumeClaimRetentionPolicy",
        Degraded,
        "a volume stays until `shoal volume rm`",
    ),
    row("spec.ordinals", Refused, "ordinals begin with 0 here"),
    row("spec.volumeClaimTemplates.*.apiVersion", Honoured, ""),
    row("spec.volumeClaimTemplates.*.kind", Honoured, ""),
    row("spec.volumeClaimTemplates.*.metadata.name", Honoured, "the name of the volume"),
    row("spec.volumeClaimTemplates.*.metadata.labels", Degraded, "volumes have no labels"),
    row("spec.volumeClaimTemplates.*.metadata.annotations", Degraded, "nothing here reads them"),
    row("spec.volumeClaimTemplates.*.spec.accessModes", Honoured, "each replica has its own"),
    row(
        "spec.volumeClaimTemplates.*.spec.resources.requests.storage",
        Honoured,
        "`disk`, with all others: counted, and not enforced",
    ),
    row("spec.volumeClaimTemplates.*.spec.resources.limits", Degraded, "disk has no limit"),
    row("spec.volumeClaimTemplates.*.spec.storageClassName", Degraded, "the disk of the node"),
    row("spec.volumeClaimTemplates.*.spec.volumeMode", Honoured, "`Filesystem` alone"),
    row("spec.volumeClaimTemplates.*.spec.selector", Refused, "there are no volumes to choose of"),
    row("spec.volumeClaimTemplates.*.spec.dataSource", Refused, "`shoal volume restore` fills one"),
    row("spec.volumeClaimTemplates.*.spec.volumeName", Refused, "a volume belongs to a replica"),
    row("spec.volumeClaimTemplates.*.status", Honoured, ""),
];

const DAEMON_SET: &[Row] = &[
    row("spec.selector", Honoured, "must fit the labels of `template`"),
    row("spec.updateStrategy.type", Honoured, "`OnDelete`: `update.paused`"),
    row(
        "spec.updateStrategy.rollingUpdate.maxUnavailable",
        Honoured,
        "`update.parallel`; percents are taken as 1",
    ),
    row("spec.updateStrategy.rollingUpdate.maxSurge", Honoured, "`update.order: start-first`"),
    row("spec.minReadySeconds", Honoured, "`update.min-ready`"),
    row("spec.revisionHistoryLimit", Degraded, "`shoal history` keeps its own number"),
];

const JOB: &[Row] = &[
    row("spec.completions", Honoured, "`completions`"),
    row("spec.parallelism", Honoured, "`parallel`"),
    row("spec.backoffLimit", Honoured, "`retries`, of each index"),
    row("spec.activeDeadlineSeconds", Honoured, "`deadline`"),
    row("spec.ttlSecondsAfterFinished", Honoured, "`keep`"),
    row("spec.completionMode", Honoured, "`Indexed`: `env_from: { JOB_COMPLETION_INDEX: index }`"),
    row("spec.suspend", Honoured, "`false` alone"),
    row("spec.selector", Degraded, "a job has its replicas by its name"),
    row("spec.manualSelector", Degraded, "a job has its replicas by its name"),
    row("spec.podReplacementPolicy", Degraded, "a try begins when the one before has ended"),
    row("spec.podFailurePolicy", Refused, "the exit code alone decides here"),
    row("spec.successPolicy", Refused, "a job is done when all indices succeeded"),
    row("spec.backoffLimitPerIndex", Refused, "write `backoffLimit`: it is of each index here"),
    row("spec.maxFailedIndexes", Refused, "a job has failed with its first index"),
    row("spec.managedBy", Refused, "nothing else runs jobs here"),
];

const CRON_JOB: &[Row] = &[
    row("spec.schedule", Honoured, "`schedule`"),
    row("spec.timeZone", Honoured, "`timezone`"),
    row("spec.startingDeadlineSeconds", Honoured, "`missed: skip`: a tick has a minute to start"),
    row("spec.concurrencyPolicy", Honoured, "`overlap`"),
    row("spec.suspend", Honoured, "`suspend`"),
    row("spec.successfulJobsHistoryLimit", Degraded, "`shoal ps` shows its own number of runs"),
    row("spec.failedJobsHistoryLimit", Degraded, "`shoal ps` shows its own number of runs"),
    row("spec.jobTemplate.metadata.name", Degraded, "runs are named by their tick"),
    row("spec.jobTemplate.metadata.labels", Degraded, "runs have no labels of their own"),
    row("spec.jobTemplate.metadata.annotations", Degraded, "nothing here reads them"),
];

const SERVICE: &[Row] = &[
    row("spec.selector", Honoured, "finds the workloads by the labels of their pods"),
    row("spec.type", Honoured, "`NodePort`, `LoadBalancer`: `ports` of the device"),
    row("spec.ports.*.name", Honoured, "named by an Ingress"),
    row("spec.ports.*.port", Honoured, "a port of the name; of the device for a `LoadBalancer`"),
    row("spec.ports.*.targetPort", Honoured, "`port` of the container, by number or name"),
    row("spec.ports.*.nodePort", Honoured, "`ports` of the device that runs a replica"),
    row("spec.ports.*.protocol", Honoured, "`TCP` or `UDP`"),
    row("spec.ports.*.appProtocol", Degraded, "bytes are passed on as they are"),
    row("spec.clusterIP", Honoured, "`None`, or nothing: addresses are shoal's own"),
    row("spec.clusterIPs", Degraded, "addresses are shoal's own"),
    row("spec.ipFamilies", Degraded, "addresses are shoal's own"),
    row("spec.ipFamilyPolicy", Degraded, "addresses are shoal's own"),
    row("spec.sessionAffinity", Degraded, "takes effect with networking"),
    row("spec.sessionAffinityConfig", Degraded, "takes effect with networking"),
    row("spec.internalTrafficPolicy", Degraded, "a replica of the same node comes first"),
    row("spec.externalTrafficPolicy", Degraded, "a port of a device leads to its own replica"),
    row("spec.trafficDistribution", Degraded, "a replica of the same node comes first"),
    row("spec.healthCheckNodePort", Degraded, "`shoal ps` says it"),
    row("spec.allocateLoadBalancerNodePorts", Degraded, "no port is given that is not named"),
    row("spec.loadBalancerClass", Degraded, "the nodes themselves have the port"),
    row("spec.loadBalancerIP", Refused, "write the port as a `hostPort` with its `hostIP`"),
    row("spec.loadBalancerSourceRanges", Refused, "a firewall of the device keeps others out"),
    row("spec.publishNotReadyAddresses", Degraded, "a name leads to ready replicas alone"),
    row("spec.externalName", Refused, "write the outer name into the program's environment"),
    row("spec.externalIPs", Refused, "write the port as a `hostPort` with its `hostIP`"),
];

const INGRESS: &[Row] = &[
    row("spec.ingressClassName", Degraded, "every node answers HTTP itself"),
    row("spec.defaultBackend", Honoured, "`port` of the workload of that Service"),
    row(
        "spec.rules.*.host",
        Degraded,
        "not looked at: the workload answers as `NAME.localhost` on every node",
    ),
    row(
        "spec.rules.*.http.paths.*.path",
        Degraded,
        "not looked at: all paths lead to the workload",
    ),
    row(
        "spec.rules.*.http.paths.*.pathType",
        Degraded,
        "not looked at: all paths lead to the workload",
    ),
    row(
        "spec.rules.*.http.paths.*.backend",
        Honoured,
        "`port` of the workload of that Service: every node answers as `NAME.localhost`",
    ),
    row(
        "spec.tls",
        Degraded,
        "requests come over HTTP; a proxy with the certificate can stand before a node",
    ),
];

const CONFIG_MAP: &[Row] = &[
    row("data", Honoured, "a config `NAME-KEY` for each key"),
    row("binaryData", Honoured, "a config `NAME-KEY` for each key"),
    row("immutable", Degraded, "a new value replaces the old one"),
];

const SECRET: &[Row] = &[
    row("data", Honoured, "a secret `NAME-KEY` for each key"),
    row("stringData", Honoured, "a secret `NAME-KEY` for each key, before `data`"),
    row("type", Honoured, "says which keys there are"),
    row("immutable", Degraded, "a new value replaces the old one"),
];

const CLAIM: &[Row] = &[
    row("spec.accessModes", Honoured, "one replica mounts it"),
    row("spec.resources.requests.storage", Honoured, "`disk`: counted, and not enforced"),
    row("spec.resources.limits", Degraded, "disk has no limit"),
    row("spec.storageClassName", Degraded, "the disk of the node"),
    row("spec.volumeMode", Honoured, "`Filesystem` alone"),
    row("spec.volumeName", Refused, "a volume belongs to a replica; a `hostPath` names a folder"),
    row("spec.selector", Refused, "there are no volumes to choose of"),
    row("spec.dataSource", Refused, "`shoal volume restore` fills one"),
    row("spec.dataSourceRef", Refused, "`shoal volume restore` fills one"),
];

const SCALER: &[Row] = &[
    row("spec.scaleTargetRef.apiVersion", Honoured, ""),
    row("spec.scaleTargetRef.kind", Honoured, "`Deployment` alone"),
    row("spec.scaleTargetRef.name", Honoured, "the workload"),
    row("spec.minReplicas", Honoured, "`autoscale.min`"),
    row("spec.maxReplicas", Honoured, "`autoscale.max`"),
    row("spec.targetCPUUtilizationPercentage", Honoured, "`autoscale.cpu`"),
    row("spec.metrics.*.type", Honoured, "`Resource` alone"),
    row("spec.metrics.*.resource.name", Honoured, "`cpu` or `memory`"),
    row("spec.metrics.*.resource.target.type", Honoured, "`Utilization`, or `AverageValue`"),
    row(
        "spec.metrics.*.resource.target.averageUtilization",
        Honoured,
        "`autoscale.cpu`, `.memory`",
    ),
    row("spec.metrics.*.resource.target.averageValue", Honoured, "in percent of the request"),
    row(
        "spec.metrics.*.containerResource",
        Refused,
        "write `resource`: it is about all containers",
    ),
    row("spec.metrics.*.pods", Refused, "CPU and memory are measured here, and no others"),
    row("spec.metrics.*.object", Refused, "CPU and memory are measured here, and no others"),
    row("spec.metrics.*.external", Refused, "CPU and memory are measured here, and no others"),
    row("spec.behavior.scaleUp.stabilizationWindowSeconds", Honoured, "`autoscale.up`"),
    row("spec.behavior.scaleDown.stabilizationWindowSeconds", Honoured, "`autoscale.down`"),
    row("spec.behavior.scaleUp.policies", Degraded, "the number follows from the load at once"),
    row("spec.behavior.scaleUp.selectPolicy", Degraded, "the number follows from the load at once"),
    row("spec.behavior.scaleUp.tolerance", Degraded, "shoal has its own"),
    row("spec.behavior.scaleDown.policies", Degraded, "the number follows from the load at once"),
    row("spec.behavior.scaleDown.selectPolicy", Degraded, "the number follows at once"),
    row("spec.behavior.scaleDown.tolerance", Degraded, "shoal has its own"),
];

const BUDGET: &[Row] = &[row(
    "spec",
    Honoured,
    "`shoal drain` starts a replica elsewhere before it stops one, whatever the numbers; one of a \
     StatefulSet at a time stops first, also with `maxUnavailable: 0`",
)];

const PRIORITY: &[Row] = &[
    row("value", Honoured, "`priority`, from -1000 to 1000: what is beyond is the bound"),
    row("globalDefault", Honoured, "the priority of workloads that name none"),
    row("preemptionPolicy", Degraded, "above 0 a workload takes the place of lower ones"),
    row("description", Honoured, ""),
];

const NO_API: Fate = Fate::LeftOut("there is no API of Kubernetes for programs here");

/// All kinds that are known.
pub(super) const KINDS: &[Kind] = &[
    read("Deployment", &["apps/v1"], "a service", DEPLOYMENT, Some("spec.template")),
    read("StatefulSet", &["apps/v1"], "`kind: stateful`", STATEFUL_SET, Some("spec.template")),
    read("DaemonSet", &["apps/v1"], "`kind: daemon`", DAEMON_SET, Some("spec.template")),
    read("Job", &["batch/v1"], "`kind: job`", JOB, Some("spec.template")),
    read(
        "CronJob",
        &["batch/v1"],
        "`schedule`; the fields of a Job stand below `spec.jobTemplate`",
        CRON_JOB,
        Some("spec.jobTemplate.spec.template"),
    ),
    read(
        "Pod",
        &["v1"],
        "a service of one; with `restartPolicy` `OnFailure` or `Never` a job",
        &[],
        Some(""),
    ),
    read("Service", &["v1"], "ports of the workloads that it selects", SERVICE, None),
    read("Ingress", &["networking.k8s.io/v1"], "HTTP of the workloads", INGRESS, None),
    read("ConfigMap", &["v1"], "configs", CONFIG_MAP, None),
    read("Secret", &["v1"], "secrets", SECRET, None),
    read("PersistentVolumeClaim", &["v1"], "a volume of the node", CLAIM, None),
    read(
        "HorizontalPodAutoscaler",
        &["autoscaling/v2", "autoscaling/v1"],
        "`autoscale` of its target",
        SCALER,
        None,
    ),
    read("PodDisruptionBudget", &["policy/v1"], "nothing to do", BUDGET, None),
    Kind {
        is_namespaced: false,
        ..read("PriorityClass", &["scheduling.k8s.io/v1"], "`priority`", PRIORITY, None)
    },
    Kind {
        is_namespaced: false,
        ..read(
            "Namespace",
            &["v1"],
            "the namespace, which is there with its first workload",
            &[row("spec", Honoured, "finalizers"), row("metadata", Honoured, "the name")],
            None,
        )
    },
    left("ServiceAccount", &["v1"], NO_API),
    left("Role", &["rbac.authorization.k8s.io/v1"], NO_API),
    left("RoleBinding", &["rbac.authorization.k8s.io/v1"], NO_API),
    left("ClusterRole", &["rbac.authorization.k8s.io/v1"], NO_API),
    left("ClusterRoleBinding", &["rbac.authorization.k8s.io/v1"], NO_API),
    left(
        "StorageClass",
        &["storage.k8s.io/v1"],
        Fate::LeftOut("volumes are on the disk of their node"),
    ),
    left(
        "IngressClass",
        &["networking.k8s.io/v1"],
        Fate::LeftOut("every node answers HTTP itself"),
    ),
    left(
        "ReplicaSet",
        &["apps/v1"],
        Fate::Refused("a ReplicaSet belongs to a Deployment", "Publish the Deployment."),
    ),
    left(
        "ReplicationController",
        &["v1"],
        Fate::Refused("it is older than Deployments", "Write it as a Deployment of `apps/v1`."),
    ),
    left(
        "NetworkPolicy",
        &["networking.k8s.io/v1"],
        Fate::Refused(
            "shoal keeps no workloads apart in the network, and the file says that it must",
            "Leave it away if all workloads may reach one another.",
        ),
    ),
    left(
        "PersistentVolume",
        &["v1"],
        Fate::Refused(
            "a volume is made on the node of its replica",
            "Write the path into the pod as a `hostPath`, and leave the object away.",
        ),
    ),
    left(
        "LimitRange",
        &["v1"],
        Fate::Refused(
            "nothing here changes the resources of a workload",
            "Write them into each container, and leave the object away.",
        ),
    ),
    left(
        "ResourceQuota",
        &["v1"],
        Fate::Refused(
            "a namespace has no quota; an operator has",
            "See `shoal operator add`, and leave the object away.",
        ),
    ),
    left(
        "Endpoints",
        &["v1"],
        Fate::Refused(
            "a name leads to workloads alone",
            "Write the address into the program's environment, and leave the object away.",
        ),
    ),
    left(
        "EndpointSlice",
        &["discovery.k8s.io/v1"],
        Fate::Refused(
            "a name leads to workloads alone",
            "Write the address into the program's environment, and leave the object away.",
        ),
    ),
    left(
        "CustomResourceDefinition",
        &["apiextensions.k8s.io/v1"],
        Fate::Refused(
            "shoal has no kinds of other programs",
            "The program that brings it needs the API of Kubernetes, and does not run here.",
        ),
    ),
];

const fn read(
    name: &'static str,
    apis: &'static [&'static str],
    becomes: &'static str,
    rows: &'static [Row],
    pod: Option<&'static str>,
) -> Kind {
    Kind { name, apis, is_namespaced: true, fate: Fate::Read, becomes, rows, pod }
}

const fn left(name: &'static str, apis: &'static [&'static str], fate: Fate) -> Kind {
    Kind { name, apis, is_namespaced: true, fate, becomes: "", rows: &[], pod: None }
}
