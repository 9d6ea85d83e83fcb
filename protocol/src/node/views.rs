//! Views of the node and the cluster, for people and programs. Read-only.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::Workload;
use crate::membership::State;
use crate::model::spec::{Container, HostPort, Kind, Program};
use crate::model::view::{
    ContainerView, NodeView, ServiceView, SpecBody, StatusView, WorkloadView,
};
use crate::model::{
    Claim, Digest, Key, Label, Need, NodeId, Place, ReplicaId, ReplicaName, Resources, Spec, Time,
    Token, WorkloadName,
};

use super::{Answerer, Node};

impl Node {
    /// Grows whenever anything that views show may have changed.
    pub fn views_version(&self) -> u64 {
        self.shown.version
    }

    /// A summary of this node and the cluster.
    pub fn status(&self) -> StatusView {
        let members = self.desired.members();
        let mut counters: std::collections::BTreeMap<String, u64> =
            self.shown.counters.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        counters.insert("incarnation".into(), self.membership.incarnation());
        // Grants of operators that end within three weeks, or have ended.
        let ending = u64::try_from(self.expiry_warnings().len()).unwrap_or(u64::MAX);
        counters.insert("grants_ending".into(), ending);
        StatusView {
            cluster: self.cluster.to_string(),
            node: self.me.to_string(),
            name: self.config.name.clone(),
            ready: self.readiness.is_ready() && !self.is_expelled(),
            nodes_up: self.nodes_up(),
            nodes: members.len(),
            links: self.membership.links().count(),
            workloads: self.desired.workloads().count(),
            replicas: self
                .desired
                .workloads()
                .map(|workload| u64::from(self.demand().count(workload)))
                .sum(),
            healthy: self
                .desired
                .workloads()
                .map(|workload| u64::from(self.healthy_places(workload)))
                .sum(),
            read_only: self.saving.read_only.clone(),
            warnings: self.warnings(),
            counters,
            roots: self
                .repair
                .roots()
                .map(|(tree, root)| (tree.as_str().to_owned(), root.to_string()))
                .into(),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(why) = &self.saving.read_only {
            warnings.push(format!(
                "the disk takes no writes ({why}): make room, or replace it; this node goes on by \
                    itself then"
            ));
        }
        if self.slot_gossip.is_contested {
            warnings.push(
                "another device runs with this node's identity: wipe the state folder \
                of one of them"
                    .into(),
            );
        }
        if !self.admitted() {
            warnings.push(self.not_admitted_warning());
        } else if !self.readiness.is_ready() {
            warnings.push(
                "catching up: this node owns nothing until it knows what the others know".into(),
            );
        }
        if self.membership.links().next().is_none() {
            warnings.extend(
                self.reach
                    .failed()
                    .map(|(seed, why)| format!("seed {seed}: {why}; it is tried again")),
            );
        }
        warnings.extend(self.reach.trouble.clone());
        warnings.extend(self.expiry_warnings());
        self.add_unreachable_warnings(&mut warnings);
        for key in self.desired.conflicts() {
            if let Key::Workload(name) = key {
                warnings.push(format!(
                    "{name} was changed by two operators at once, the later \
                    change counts: publish it again to settle it"
                ));
            }
        }
        for (name, _) in self.desired.opaque() {
            warnings.push(format!(
                "{name} is in a form this version does not know: update shoal on this device"
            ));
        }
        warnings
    }

    fn not_admitted_warning(&self) -> String {
        if self.is_expelled() {
            return "this node was revoked: it runs nothing. To use the device again, empty its \
                state folder and join with a new invite"
                .into();
        }
        match &self.reach.refused {
            Some(why) => format!("not a member: {why}"),
            None => "not a member yet: no member has answered; check that a seed address can be \
                reached"
                .into(),
        }
    }

    /// Every member, by name.
    pub fn nodes(&self) -> Vec<NodeView> {
        let mut nodes: Vec<NodeView> =
            self.desired.members().keys().map(|node| self.node_view(node)).collect();
        nodes.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        nodes
    }

    fn node_view(&self, node: &NodeId) -> NodeView {
        let record = self.membership.record(node);
        let facts = record.map(|record| &record.facts);
        let claims: Vec<&Claim> = self.claims.of_node(node).collect();
        let used = claims.iter().map(|claim| self.claimed_need(claim));
        let used = used.fold(Need::default(), |sum, need| sum.plus(&need));
        let me = *node == self.me;
        let policy = self.policy(node);
        NodeView {
            id: node.to_string(),
            name: self.name_of(node),
            state: match self.membership.state(node) {
                _ if me => "up",
                State::Up => "up",
                State::BackBy(_) => "back-by",
                State::Down => "down",
                State::Unknown => "unknown",
            }
            .into(),
            reason: self.membership.why_down(node),
            me,
            ready: if me {
                self.readiness.is_ready()
            } else {
                record.is_some_and(|record| record.ready)
            },
            incarnation: self.membership.incarnation_of(node).unwrap_or_default(),
            addresses: record.map(|record| record.addresses.clone()).unwrap_or_default(),
            arch: facts.map(|facts| facts.arch.clone()).unwrap_or_default(),
            runtimes: facts
                .into_iter()
                .flat_map(|facts| &facts.runtimes)
                .map(ToString::to_string)
                .collect(),
            allows: facts
                .into_iter()
                .flat_map(|facts| &facts.allowed.0)
                .map(ToString::to_string)
                .collect(),
            volumes: facts
                .into_iter()
                .flat_map(|facts| &facts.volumes)
                .map(|it| format!("{}/{}/{}", it.workload, it.place, it.name))
                .collect(),
            labels: facts.map(|facts| facts.labels.clone()).unwrap_or_default(),
            cordoned: policy.cordoned,
            drained: policy.drained,
            set_labels: policy.labels,
            taints: policy.taints,
            memory: facts.map_or(0, |facts| facts.capacity.memory),
            cpu: facts.map_or(0, |facts| facts.capacity.cpu),
            memory_used: used.size.memory,
            cpu_used: used.size.cpu,
            resources: facts.map(|facts| facts.offers.clone()).unwrap_or_default(),
            resources_used: used.counted,
            replicas: claims.len(),
            version: record.map(|record| record.version.clone()).unwrap_or_default(),
            path: self.path_note(node),
            answered_by: self
                .membership
                .answers_at(node)
                .map(|(address, by)| (address.clone(), self.answerer_name(by)))
                .collect(),
            no_way_to: self
                .membership
                .unreachable_from(node)
                .iter()
                .filter(|other| self.is_up(other))
                .map(|other| self.name_of(other))
                .collect(),
            rtt_us: self
                .membership
                .rtt(node)
                .map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
        }
    }

    /// Resources of a claimed replica: of the version that serves, where this node knows it, else
    /// of the one that is wished for.
    fn claimed_need(&self, claim: &Claim) -> Need {
        let (uid, generation) = (&claim.replica.uid, claim.generation);
        let wished = self.desired.by_uid(uid).map(|workload| &workload.spec);
        let previous = wished.and_then(|spec| spec.later.previous.as_ref());
        let previous = previous.filter(|spec| spec.revision() == generation);
        let spec = self.spec_of(uid, generation).or(previous).or(wished);
        spec.map(|spec| spec.need()).unwrap_or_default()
    }

    /// The addresses at which a member is dialled, the best first, as multiaddrs.
    pub fn addresses_of(&self, node: &NodeId) -> Vec<String> {
        self.membership.addresses(node)
    }

    fn answerer_name(&self, by: &Answerer) -> String {
        match by {
            Answerer::Node(other) => format!("node {}", self.name_of(other)),
            Answerer::Stranger => "a program that is not of this cluster".into(),
            Answerer::Nobody => "nobody: the device there refuses".into(),
        }
    }

    /// Every workload, by name.
    pub fn workloads(&self) -> Vec<WorkloadView> {
        self.desired.workloads().map(|workload| self.workload_view(workload)).collect()
    }

    /// A workload by its name.
    pub fn workload(&self, name: &WorkloadName) -> Option<WorkloadView> {
        self.desired.workload(name).map(|workload| self.workload_view(workload))
    }

    fn workload_view(&self, workload: &Workload) -> WorkloadView {
        // All fields are named, so that a new one is either shown or left out on purpose.
        let SpecBody {
            name: _,
            runtime,
            artifact,
            // Among the options.
            world: _,
            args: _,
            container,
            others: _,
            replicas: _,
            memory,
            cpu,
            limit,
            env,
            require,
            storage,
            ports,
            // Among the options.
            mounts: _,
            stdin: _,
            tty: _,
            exposed: _,
            values: _,
            health: _,
            rules: _,
            prefer: _,
            spread: _,
            affinity: _,
            tolerate: _,
            set: _,
            restarts: _,
            resources: _,
            best_effort: _,
            priority: _,
            after: _,
            no_healthcheck: _,
            kind: _,
            update: _,
            previous: _,
            autoscale: _,
        } = SpecBody::from(&workload.spec);
        let here = workload.spec.program.artifacts_on(Some(&self.device.facts.arch));
        let guardians = self.guardians(&workload.name);
        let names: Vec<String> = guardians.iter().map(|node| self.name_of(node)).collect();
        WorkloadView {
            namespace: workload.name.namespace.to_string(),
            name: workload.name.name.to_string(),
            uid: workload.uid.to_string(),
            generation: workload.spec.revision().to_string(),
            kind: workload.spec.kind.as_str().to_owned(),
            job: self.job_state(workload),
            results: self.result_views(workload),
            scale: self.scale_view(workload),
            update: self.update_view(workload),
            runtime,
            artifact: artifact.map(|it| it.digest.to_string()).unwrap_or_default(),
            artifact_size: here.map(|artifact| artifact.size).fold(0, u64::saturating_add),
            image: container.as_ref().map(|container| container.image.reference.clone()),
            containers: containers_of(&workload.spec),
            http: workload.spec.program.answers(),
            artifact_holders: self.artifact_holders(workload),
            desired: self.demand().count(workload),
            healthy: self.healthy_places(workload),
            memory,
            cpu,
            limit,
            env,
            options: options_of(&workload.spec, container.as_ref()),
            require,
            storage,
            ports,
            owner: names.first().cloned(),
            guardians: names,
            conflict: self.desired.siblings(&Key::Workload(workload.name.clone())).count() > 1,
            replicas: self.replica_views(workload),
        }
    }

    /// All workloads as others reach them by name.
    pub fn services(&self) -> Vec<ServiceView> {
        let mine: BTreeSet<_> = self.claims.mine().map(|claim| claim.replica.uid).collect();
        let runs_here = |workload: &Workload| mine.contains(&workload.uid);
        self.desired.workloads().map(|it| service_view(it, runs_here(it))).collect()
    }

    /// A workload as others reach it by name.
    pub fn service(&self, name: &WorkloadName) -> Option<ServiceView> {
        let workload = self.desired.workload(name)?;
        let runs_here = self.claims.mine().any(|claim| claim.replica.uid == workload.uid);
        Some(service_view(workload, runs_here))
    }

    /// The workload that has this further name in a namespace, as others reach it: the first one,
    /// if several have it.
    pub fn aliased(&self, namespace: &Label, alias: &str) -> Option<ServiceView> {
        let has_it = |it: &&Workload| {
            let main = it.spec.program.containers().first();
            it.name.namespace == *namespace
                && main.is_some_and(|main| main.extra.aliases.iter().any(|one| one == alias))
        };
        // They are in the order of their names.
        let workload = self.desired.workloads().find(has_it)?;
        self.service(&workload.name)
    }

    /// Whether this node claims a replica.
    pub fn claims_replica(&self, replica: &ReplicaName) -> bool {
        let workload = self.desired.workload(&replica.workload);
        let id = |uid| ReplicaId { uid, place: replica.place };
        workload.is_some_and(|it| self.claims.my_claim(&id(it.uid)).is_some())
    }

    /// The nodes that are up and claim a replica, this node first.
    ///
    /// For one that came to its end, the node that saw that: its lines are there.
    pub fn holders(&self, replica: &ReplicaName) -> Vec<(NodeId, ReplicaId)> {
        let Some(workload) = self.desired.workload(&replica.workload) else { return Vec::new() };
        let id = ReplicaId { uid: workload.uid, place: replica.place };
        let mut holders: Vec<(NodeId, ReplicaId)> = self
            .claims
            .of(&id)
            .into_iter()
            .map(|(node, _)| (node, id))
            .filter(|(node, _)| self.is_up(node))
            .collect();
        holders.sort_by_key(|(node, _)| *node != self.me);
        if holders.is_empty() {
            holders.extend(self.saw_end(&id).map(|node| (node, id)));
        }
        holders
    }

    /// The place of a workload that people mean by this text: a number, the instant of a tick with
    /// a number, or the name of a node.
    pub fn place_of(&self, name: &WorkloadName, text: &str) -> Option<Place> {
        let workload = self.desired.workload(name)?;
        if matches!(workload.spec.kind, Kind::Daemon) {
            let claims = self.claims.of_workload(&workload.uid).into_iter();
            let claimed = claims.map(|(_, claim)| claim.replica.place);
            let members = self.membership.records().map(|(node, _)| Place::OnNode(node));
            let is_it = |place: &Place| self.place_text(place) == text || place.to_string() == text;
            return members.chain([Place::OnNode(self.me)]).chain(claimed).find(is_it);
        }
        match text.parse().ok()? {
            Place::Ordinal(index) if matches!(workload.spec.kind, Kind::Job(_)) => {
                Some(Place::Run { at: 0, index })
            }
            place => Some(place),
        }
    }

    /// A replica as people name it.
    pub(super) fn named(&self, workload: &Workload, place: &Place) -> String {
        format!("{}/{}", workload.name, self.place_text(place))
    }

    /// A place as people name it.
    pub(super) fn place_text(&self, place: &Place) -> String {
        match place {
            Place::OnNode(node) => self.name_of(node),
            Place::Ordinal(_) | Place::Run { .. } => place.to_string(),
        }
    }

    /// The ports of the device that replicas of this node have: all others on which a program
    /// listens are another program's.
    pub fn ports_held(&self) -> BTreeSet<HostPort> {
        self.holding.ports().into_iter().collect()
    }

    /// This node's own claims, by replica.
    pub fn own_claims(&self) -> impl Iterator<Item = &Claim> {
        self.claims.mine()
    }

    /// This node's own claim of a replica.
    pub fn own_claim(&self, replica: &ReplicaId) -> Option<&Claim> {
        self.claims.my_claim(replica)
    }

    /// The resources that this node's claims and reservations take.
    pub fn committed(&self) -> Resources {
        let used = self.holding.committed().clone().plus(self.holding.stopping());
        self.device.facts.capacity.minus(self.auction.unreserved(used).size)
    }

    /// All that claims and reservations take together, without a cap. Never more than the node
    /// offers, unless its offer was reduced. For tests.
    pub fn promised(&self) -> Need {
        let held = self.holding.committed().clone().plus(self.holding.stopping());
        held.narrow().plus(&self.auction.reserved())
    }

    /// The priority of a workload. For tests.
    pub fn priority(&self, uid: &Digest) -> Option<i32> {
        self.desired.by_uid(uid).map(|workload| workload.spec.later.priority)
    }

    /// The priorities of all workloads. For tests.
    pub fn priorities(&self) -> impl Iterator<Item = i32> {
        self.desired.workloads().map(|workload| workload.spec.later.priority)
    }

    /// The greatest token seen for a replica.
    pub fn seen_token(&self, replica: &ReplicaId) -> Option<Token> {
        self.claims.highest_token(replica)
    }

    /// Whether this node may own workloads.
    pub fn is_ready(&self) -> bool {
        self.readiness.is_ready()
    }

    /// The number of members that this node holds to be up, itself included.
    pub fn nodes_up(&self) -> usize {
        self.desired.members().keys().filter(|node| self.is_up(node)).count()
    }

    /// The roots of the trees that are compared with others.
    pub fn roots(&self) -> [Digest; 4] {
        self.repair.roots().map(|(_, root)| root)
    }

    /// The effective spec of a workload.
    pub fn spec(&self, name: &WorkloadName) -> Option<&Spec> {
        self.desired.workload(name).map(|workload| &workload.spec)
    }

    /// The replicas that a workload should have.
    pub fn wanted(&self, name: &WorkloadName) -> Vec<ReplicaId> {
        let Some(workload) = self.desired.workload(name) else { return Vec::new() };
        let places = self.demand().places(workload).into_keys();
        places.map(|place| ReplicaId { uid: workload.uid, place }).collect()
    }

    /// The spec of a workload as it was written, also after a roll-back.
    pub fn written(&self, name: &WorkloadName) -> Option<Spec> {
        let change = self.desired.effective(&Key::Workload(name.clone()))?;
        Some(change.signed.value.spec()?.without_previous())
    }

    /// Whether a workload's update was ruled to be bad, and it runs its previous spec.
    pub fn is_rolled_back(&self, name: &WorkloadName) -> bool {
        self.desired.workload(name).is_some_and(|it| it.written != it.generation)
    }

    /// The generation that a workload should run.
    pub fn generation(&self, uid: &Digest) -> Option<Digest> {
        self.desired.by_uid(uid).map(|workload| workload.generation)
    }

    /// Whether this node is one of the workload's guardians, which hold its artifact.
    pub fn guards(&self, name: &WorkloadName) -> bool {
        self.desired.workload(name).is_some_and(|workload| self.is_guardian(&workload.uid, name))
    }

    /// The start of this node, by its own time.
    pub fn started(&self) -> Time {
        self.device.started
    }
}

/// The containers of a group of several.
fn containers_of(spec: &Spec) -> Vec<ContainerView> {
    let all = spec.program.containers();
    let view = |it: &Container| ContainerView {
        name: it.name.clone(),
        role: it.member.role.to_string(),
        image: it.image.reference.clone(),
        env: it.env.clone(),
        options: it.options().into_iter().map(|(name, text)| (name.to_owned(), text)).collect(),
    };
    all.iter().filter(|_| all.len() > 1).map(view).collect()
}

fn options_of(spec: &Spec, container: Option<&Container>) -> BTreeMap<String, String> {
    let options = container.map(Container::options).unwrap_or_default();
    let all = options.into_iter().chain(spec.health.options()).chain(spec.later.options());
    let args = match &spec.program {
        Program::Wasm(component) => component.args.as_slice(),
        Program::Containers(_) => &[],
    };
    let args = (!args.is_empty()).then(|| ("args", args.join(" ")));
    let all = all.chain(spec.placement.options()).chain(spec.kind.options()).chain(args);
    all.map(|(name, text)| (name.to_owned(), text)).collect()
}

fn service_view(workload: &Workload, runs_here: bool) -> ServiceView {
    ServiceView {
        name: workload.name.clone(),
        ports: workload.spec.ports(),
        kind: workload.spec.program.kind(),
        runs_here,
        named: if workload.spec.kind.is_stateful() { workload.spec.replicas() } else { 0 },
    }
}
