//! The cluster under test, driven step by step beside the reference.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest_state_machine::StateMachineTest;
use shoal_protocol::model::Digest;
use shoal_testnet::sim::TestCluster;

use super::draw::Reference;
use super::state::{Answer, Life, Outcome, State};
use super::step::{LONG, NAMES, Request, Step, Twist, Workload};
use super::user::{Response, User, parsed, prepare, spec, workload_of};

/// A cluster, its users, and the results of their writes.
pub struct Trial {
    cluster: TestCluster,
    operator: User,
    colleague: User,
    stranger: User,
    far_side: BTreeSet<usize>,
    devices: usize,
    outcomes: Vec<Outcome>,
    /// The uids of all workloads that were accepted.
    uids: BTreeSet<Digest>,
}

impl StateMachineTest for Trial {
    type SystemUnderTest = Trial;
    type Reference = Reference;

    fn init_test(state: &State) -> Trial {
        let devices = state.devices.len();
        let cluster = TestCluster::new(state.seed, devices).unwrap_or_else(|why| panic!("{why}"));
        let (operator, colleague) = (User::operator(&cluster, 1), User::operator(&cluster, 2));
        let (stranger, far_side, outcomes, uids) =
            (User::stranger(3), BTreeSet::new(), Vec::new(), BTreeSet::new());
        Trial { cluster, operator, colleague, stranger, far_side, devices, outcomes, uids }
    }

    fn apply(mut trial: Trial, state: &State, step: Step) -> Trial {
        trial.step(state, &step).unwrap_or_else(|why| panic!("{why}"));
        trial
    }

    fn check_invariants(trial: &Trial, state: &State) {
        trial
            .shows_what_is_possible(&state.with_outcomes(&trial.outcomes))
            .unwrap_or_else(|why| trial.wrong(&why));
    }

    fn teardown(mut trial: Trial, state: State) {
        trial.end(&state).unwrap_or_else(|why| panic!("in the end: {why}"));
        let state = state.with_outcomes(&trial.outcomes);
        trial
            .shows_all_in_order(&state)
            .unwrap_or_else(|why| trial.wrong(&format!("in the end: {why}")));
    }
}

impl Trial {
    fn wrong(&self, why: &str) -> ! {
        panic!("{why}\n{}", self.cluster.report())
    }

    /// Ends every fault, and waits until all is well as the nodes themselves see it.
    fn end(&mut self, state: &State) -> Result<(), String> {
        // A device paused during its start must finish it first, so that the holder of each replica
        // is defined.
        let paused =
            (0..state.devices.len()).filter(|device| state.devices[*device].life == Life::Paused);
        for device in paused {
            self.cluster.act(&format!("{:?}", Step::Resume(device)))?;
        }
        self.cluster.pass(Duration::from_secs(5))?;
        let names: Vec<_> = NAMES.into_iter().map(parsed).collect();
        self.cluster.settle(&names)
    }

    fn step(&mut self, state: &State, step: &Step) -> Result<(), String> {
        match step {
            Step::Ask { name, request, via, twist } => {
                self.ask(state, name, *request, *via, *twist)?
            }
            Step::Cut(devices) => {
                self.far_side = devices.clone();
                let named = |far_side: bool| -> String {
                    (0..self.devices)
                        .filter(|it| devices.contains(it) == far_side)
                        .map(|it| format!(" n{it}"))
                        .collect()
                };
                let words = format!("partition{} |{}", named(true), named(false));
                self.cluster.act(&words)?;
            }
            Step::Mend => {
                self.far_side.clear();
                self.cluster.act("mend")?;
            }
            Step::Lose(_) | Step::Join => {
                let is_far = matches!(step, Step::Lose(device) if self.far_side.contains(device));
                let is_cut = !self.far_side.is_empty();
                let others: Vec<usize> = (0..self.devices)
                    .filter(|it| is_cut && self.far_side.contains(it) != is_far)
                    .collect();
                if is_far {
                    self.far_side.insert(self.devices);
                }
                self.devices += 1;
                self.cluster.act_and_cut(&format!("{step:?}"), &others)?;
            }
            Step::Start(_) | Step::Free(_) => {
                // A daemon takes a moment to start; packets sent to its predecessor are lost by
                // then.
                self.cluster.pass(Duration::from_millis(100))?;
                match step {
                    Step::Free(device) => self.cluster.free(*device)?,
                    _ => self.cluster.act(&format!("{step:?}"))?,
                }
            }
            Step::Wait(seconds) => self.wait(state, *seconds)?,
            Step::Kill(_)
            | Step::Unplug(_)
            | Step::Leave(..)
            | Step::Pause(_)
            | Step::Resume(_)
            | Step::Fill(_)
            | Step::Stall(..)
            | Step::Gossip { .. } => self.cluster.act(&format!("{step:?}"))?,
        }
        Ok(())
    }

    fn wait(&mut self, state: &State, seconds: u64) -> Result<(), String> {
        self.cluster.pass(Duration::from_secs(seconds))?;
        if seconds >= LONG && state.is_calm() {
            let state = state.with_outcomes(&self.outcomes);
            self.shows_all_in_order(&state).map_err(|why| {
                format!("after {seconds} s of calm: {why}\n{}", self.cluster.report())
            })?;
        }
        Ok(())
    }

    fn ask(
        &mut self,
        state: &State,
        name: &str,
        request: Request,
        via: usize,
        twist: Twist,
    ) -> Result<(), String> {
        // Two writes within one millisecond have no defined order.
        self.cluster.pass(Duration::from_millis(5))?;
        let author = if twist == Twist::Forged { &self.stranger } else { &self.operator };
        let draft = match twist {
            Twist::Overtakes => {
                prepare(&mut self.cluster, via, name, Some(spec(name, LATE)), true)?.ok()
            }
            Twist::None | Twist::Dies(_) | Twist::Forged => None,
        };
        if let Twist::Dies(after) = twist {
            self.cluster.act(&format!("kill n{via} after {after}"))?;
        }
        let Response { answer, workload, uid } =
            author.ask(&mut self.cluster, via, name, request)?;
        if matches!(twist, Twist::Dies(_)) && self.cluster.node(via).is_some() {
            self.cluster.act(&format!("kill n{via}"))?;
        }
        self.cluster.log(via, &format!("a user was told: {answer:?}"));
        if !state.allowed_answers.contains(&answer) {
            let may = &state.allowed_answers;
            return Err(format!(
                "a user was told {answer:?}, and should have been one of {may:?}\n{}",
                self.cluster.report()
            ));
        }
        if state.writes.len() > self.outcomes.len() {
            self.outcomes.push(match (answer, workload) {
                (Answer::Accepted, Some(workload)) => Outcome::Accepted(workload),
                (Answer::Nothing, _) => Outcome::Unknown,
                _ => Outcome::Refused,
            });
        }
        if let Some(uid) = uid {
            let is_known = !self.uids.insert(uid);
            if state.was_there.is_some_and(|was_there| was_there != is_known) {
                let what = if is_known {
                    "takes the place of one that was there before"
                } else {
                    "is another one now"
                };
                return Err(format!("{name}, {uid}, {what}\n{}", self.cluster.report()));
            }
        }
        if let Some((draft, _)) = draft.filter(|_| answer == Answer::Accepted) {
            let late =
                self.colleague.submit(&mut self.cluster, via, name, Some(LATE), draft)?.answer;
            if late != Answer::Stale {
                let why = format!(
                    "who wrote over what came between was told {late:?}, and not that it is stale"
                );
                return Err(format!("{why}\n{}", self.cluster.report()));
            }
        }
        Ok(())
    }

    /// Checks that each node shows a possible value for each name.
    fn shows_what_is_possible(&self, state: &State) -> Result<(), String> {
        let running: Vec<usize> = state.running().collect();
        let actual: Vec<usize> = self.cluster.running();
        if let Some(device) = running.iter().find(|device| !actual.contains(device)) {
            return Err(format!("n{device} should run, and does not"));
        }
        for device in actual {
            for name in NAMES {
                self.shows(device, name, &state.possible_at(device, name))?;
            }
        }
        Ok(())
    }

    fn shows(
        &self,
        device: usize,
        name: &str,
        possible: &BTreeSet<Option<Workload>>,
    ) -> Result<Option<Workload>, String> {
        let node = self.cluster.node(device).expect("it runs");
        let found = node.spec(&parsed(name)).map(workload_of);
        if possible.contains(&found) {
            return Ok(found);
        }
        Err(format!("n{device} shows {found:?} under {name}, which should be one of {possible:?}"))
    }

    /// Checks that all nodes show the same possible values, and that all replicas run.
    fn shows_all_in_order(&self, state: &State) -> Result<(), String> {
        let running = self.cluster.running();
        let mut seen: BTreeMap<&str, Option<Workload>> = BTreeMap::new();
        for device in &running {
            let node = self.cluster.node(*device).expect("it runs");
            let up = node.nodes().iter().filter(|it| it.state == "up").count();
            if up != running.len() {
                return Err(format!("n{device} shows {up} of {} nodes up", running.len()));
            }
            if let Some(odd) = node.workloads().iter().find(|it| !NAMES.contains(&it.name.as_str()))
            {
                return Err(format!("n{device} shows {}, which was never published", odd.name));
            }
            for name in NAMES {
                let found = self.shows(*device, name, &state.possible_at_last(name))?;
                if *seen.entry(name).or_insert(found) != found {
                    return Err(format!(
                        "n{device} shows {found:?} under {name}, another node {:?}",
                        seen[name]
                    ));
                }
                self.serves(*device, name, found)?;
            }
        }
        Ok(())
    }

    /// Checks that a node shows all replicas as healthy and routes requests to each of them.
    fn serves(&self, device: usize, name: &str, workload: Option<Workload>) -> Result<(), String> {
        let node = self.cluster.node(device).expect("it runs");
        let routes =
            node.routes().1.get(&parsed(name)).map(|routes| &routes[..]).unwrap_or_default();
        let (view, Some(workload)) = (node.workload(&parsed(name)), workload) else {
            return match routes {
                [] => Ok(()),
                _ => Err(format!("n{device} sends requests to {name}, which is not there")),
            };
        };
        let spec = spec(name, workload);
        if self.cluster.is_lost(&spec) {
            return Ok(());
        }
        let wished = if workload.is_huge { 0 } else { workload.replicas };
        let healthy = view.map_or(0, |view| view.healthy);
        let reached: BTreeSet<_> = routes.iter().map(|route| route.replica).collect();
        if healthy != wished || reached.len() != routes.len() || routes.len() != wished as usize {
            let routes = routes.len();
            return Err(format!(
                "n{device} shows {healthy} of {wished} of {name} healthy, and sends requests to \
                    {routes}"
            ));
        }
        Ok(())
    }
}

/// The colleague's write that is submitted too late.
const LATE: Workload = Workload { version: 9, replicas: 1, is_huge: false, is_stateful: false };
