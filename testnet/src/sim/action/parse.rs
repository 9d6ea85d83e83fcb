//! Parses the text form of actions.

use std::str::FromStr;
use std::time::Duration;

use shoal_protocol::model::spec::MAX_REPLICAS;

use super::words::{NotUnderstood, Words, time};
use super::{ClockFault, EngineFault, KindWord, SimAction, Target};
use crate::sim::device::FailureMode;
use crate::sim::liar::Lie;
use crate::sim::network::{Gossip, Weather};

/// Devices that one `join` can add.
const MOST_AT_ONCE: u32 = 1_000;
/// The fastest clock, in thousandths of real time.
const MOST_PACE: u64 = 100_000;

/// Each action's keyword and arguments, as `--list` and error messages show them. A RATE is per
/// thousand.
const KNOWN: [(&str, &str); 38] = [
    ("publish", "NAME REPLICAS [container] [version NUMBER] [via NODE]"),
    ("publish-kind", "NAME daemon|job|cron|rolling [version NUMBER] [via NODE]"),
    ("remove", "NAME [via NODE]"),
    ("rule", "NAME VALUE [via NODE]"),
    ("kill", "NODE [after EFFECTS]"),
    ("unplug", "NODE"),
    ("leave", "NODE TIME"),
    ("start", "NODE"),
    ("restart", "NODE"),
    ("join", "COUNT"),
    ("lose", "NODE"),
    ("pause", "NODE TIME"),
    ("suspend", "NODE TIME"),
    ("slow", "NODE TIME"),
    ("stall", "NODE TIME"),
    ("fill", "NODE"),
    ("free", "NODE"),
    ("clock", "NODE jump [+|-]TIME | forgets | pace THOUSANDTHS"),
    ("clone", "NODE"),
    ("runtime", "NODE works | fails | dies | hangs"),
    ("engine", "NODE works | hangs | dies | dies-alone | emptied | late"),
    ("crash", "NODE"),
    (
        "weather",
        "lan | wan | radio | satellite | [delay TIME] [jitter TIME] [loss RATE] [repeat TIME] \
            [duplicates RATE] [stray RATE] [NODE]",
    ),
    ("cut", "NODE [>] NODE"),
    ("isolate", "NODE"),
    ("partition", "NODE .. | NODE .. [| ..]"),
    ("flap", "NODE NODE every TIME for TIME"),
    ("mend", ""),
    ("gossip", "fair | late TIME | lost"),
    ("unready", "NODE TIME"),
    ("not-live", "NODE"),
    ("move", "NODE"),
    ("upgrade", "NODE"),
    ("lie", "NODE award | claims | votes | rulings | ghosts | replay | have | texts | dumb"),
    ("revoke", "NODE"),
    ("cordon", "NODE"),
    ("drain", "NODE"),
    ("uncordon", "NODE"),
];

/// The list of actions, one line each.
pub fn known() -> String {
    KNOWN
        .iter()
        .map(|(word, usage)| format!("  {word} {usage}").trim_end().to_owned() + "\n")
        .collect()
}

impl FromStr for SimAction {
    type Err = NotUnderstood;

    fn from_str(line: &str) -> Result<Self, NotUnderstood> {
        let mut words = Words::of(line);
        let word = words.some("an action")?;
        let Some((_, usage)) = KNOWN.iter().find(|(known, _)| *known == word) else {
            let known: Vec<&str> = KNOWN.iter().map(|(word, _)| *word).collect();
            return Err(NotUnderstood(format!(
                "`{word}` is no action; known are {}",
                known.join(", ")
            )));
        };
        let action = rest(word, &mut words).and_then(|action| words.end().map(|()| action));
        action.map_err(|NotUnderstood(why)| {
            NotUnderstood(format!("{why}; it is `{}`", format!("{word} {usage}").trim_end()))
        })
    }
}

fn rest(word: &str, words: &mut Words<'_>) -> Result<SimAction, NotUnderstood> {
    Ok(match word {
        "publish" => {
            let (name, replicas) =
                (name(words)?, words.number_in(0..=MAX_REPLICAS, "a number of replicas")?);
            let is_container = words.skip("container");
            let version = if words.skip("version") { words.number("a version")? } else { 1 };
            SimAction::Publish { name, replicas, is_container, version, via: via(words)? }
        }
        "publish-kind" => {
            let (name, word) = (name(words)?, words.some("a kind")?);
            let kind = KindWord::ALL.into_iter().find(|kind| kind.as_str() == word);
            let kind = kind.ok_or_else(|| NotUnderstood(format!("`{word}` is no kind")))?;
            let version = if words.skip("version") { words.number("a version")? } else { 1 };
            SimAction::PublishKind { name, kind, version, via: via(words)? }
        }
        "remove" => SimAction::Remove { name: name(words)?, via: via(words)? },
        "rule" => SimAction::Rule {
            name: name(words)?,
            value: words.number("a value")?,
            via: via(words)?,
        },
        "kill" => {
            let target = words.target()?;
            SimAction::Kill {
                target,
                after: if words.skip("after") { words.number("a number of effects")? } else { 0 },
            }
        }
        "unplug" => SimAction::Unplug(words.target()?),
        "leave" => SimAction::Leave(words.target()?, words.time()?),
        "start" => SimAction::Start(words.target()?),
        "restart" => SimAction::Restart(words.target()?),
        "join" => SimAction::Join(words.number_in(1..=MOST_AT_ONCE, "a number of devices")?),
        "lose" => SimAction::Lose(words.target()?),
        "pause" => SimAction::Pause(words.target()?, words.time()?),
        "suspend" => SimAction::Suspend(words.target()?, words.time()?),
        "slow" => SimAction::Slow(words.target()?, words.time()?),
        "stall" => SimAction::Stall(words.target()?, words.time()?),
        "fill" => SimAction::Fill(words.target()?),
        "free" => SimAction::Free(words.target()?),
        "clock" => SimAction::Clock(words.target()?, clock(words)?),
        "clone" => SimAction::Clone(words.target()?),
        "runtime" => {
            let target = words.target()?;
            let failure_mode = match words.some("what it does")? {
                "works" => FailureMode::Works,
                "fails" => FailureMode::Fails,
                "dies" => FailureMode::Dies,
                "hangs" => FailureMode::Hangs,
                other => return Err(NotUnderstood(format!("a runtime does not `{other}`"))),
            };
            SimAction::Runtime(target, failure_mode)
        }
        "engine" => {
            let (target, word) = (words.target()?, words.some("what it does")?);
            let fault = EngineFault::WORDS.iter().find(|(known, _)| *known == word);
            let (_, fault) =
                fault.ok_or_else(|| NotUnderstood(format!("an engine does not `{word}`")))?;
            SimAction::Engine(target, *fault)
        }
        "not-live" => SimAction::NotLive(words.target()?),
        "crash" => SimAction::Crash(words.target()?),
        "weather" => {
            let weather = weather(words)?;
            SimAction::Weather(
                if words.is_at_end() { None } else { Some(words.target()?) },
                weather,
            )
        }
        "cut" => {
            let one = words.target()?;
            let both = !words.skip(">");
            SimAction::Cut { one, other: words.target()?, both }
        }
        "isolate" => SimAction::Isolate(words.target()?),
        "partition" => SimAction::Partition(groups(words)?),
        "flap" => {
            let (one, other) = (words.target()?, words.target()?);
            let every = if words.skip("every") { words.time()? } else { Duration::from_secs(1) };
            let lasting = if words.skip("for") { words.time()? } else { Duration::from_secs(10) };
            SimAction::Flap { one, other, every, lasting }
        }
        "mend" => SimAction::Mend,
        "gossip" => SimAction::Gossip(match words.some("what becomes of it")? {
            "fair" => Gossip::Fair,
            "lost" => Gossip::Lost,
            "late" => Gossip::Late(words.micros()?),
            other => return Err(NotUnderstood(format!("gossip is not `{other}`"))),
        }),
        "unready" => SimAction::Unready(words.target()?, words.time()?),
        "move" => SimAction::Move(words.target()?),
        "upgrade" => SimAction::Upgrade(words.target()?),
        "lie" => {
            let (target, word) = (words.target()?, words.some("its kind of lies")?);
            let lie = Lie::WORDS.iter().find(|(known, _)| *known == word);
            let (_, lie) = lie.ok_or_else(|| NotUnderstood(format!("`{word}` is no lie")))?;
            SimAction::Lie(target, *lie)
        }
        "revoke" => SimAction::Revoke(words.target()?),
        "cordon" => SimAction::Cordon(words.target()?),
        "drain" => SimAction::Drain(words.target()?),
        "uncordon" => SimAction::Uncordon(words.target()?),
        _ => unreachable!("the caller has looked it up"),
    })
}

fn name(words: &mut Words<'_>) -> Result<String, NotUnderstood> {
    let word = words.some("a name")?;
    let name: Result<shoal_protocol::model::WorkloadName, _> = word.parse();
    name.map(|_| word.to_owned()).map_err(|why| NotUnderstood(why.to_string()))
}

fn via(words: &mut Words<'_>) -> Result<Target, NotUnderstood> {
    if words.skip("via") { words.target() } else { Ok(Target::Any) }
}

/// A named weather, or the LAN with the given parts changed.
fn weather(words: &mut Words<'_>) -> Result<Weather, NotUnderstood> {
    if let Some((_, named)) = Weather::NAMED.iter().find(|(name, _)| words.skip(name)) {
        return Ok(*named);
    }
    let (mut weather, mut is_bare) = (Weather::LAN, true);
    loop {
        if words.skip("delay") {
            weather.delay = words.micros()?;
        } else if words.skip("jitter") {
            weather.jitter = words.micros()?;
        } else if words.skip("loss") {
            weather.loss = words.rate()?;
        } else if words.skip("repeat") {
            weather.repeat = words.micros()?;
        } else if words.skip("duplicates") {
            weather.duplicates = words.rate()?;
        } else if words.skip("stray") {
            weather.stray = words.rate()?;
        } else if is_bare {
            return Err(NotUnderstood(format!("`{}` is no weather", words.some("the weather")?)));
        } else {
            return Ok(weather);
        }
        is_bare = false;
    }
}

fn clock(words: &mut Words<'_>) -> Result<ClockFault, NotUnderstood> {
    Ok(match words.some("what it does")? {
        "forgets" => ClockFault::Forgets,
        "pace" => ClockFault::Pace(words.number_in(1..=MOST_PACE, "a number of thousandths")?),
        "jump" => {
            let word = words.some("a time")?;
            let (sign, rest) = match word.strip_prefix('-') {
                Some(rest) => (-1, rest),
                None => (1, word.strip_prefix('+').unwrap_or(word)),
            };
            let by = time(rest).ok_or_else(|| NotUnderstood(format!("`{word}` is no time")))?;
            ClockFault::Jump(sign * i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
        }
        other => return Err(NotUnderstood(format!("a clock does not `{other}`"))),
    })
}

fn groups(words: &mut Words<'_>) -> Result<Vec<Vec<usize>>, NotUnderstood> {
    let mut groups = vec![Vec::new()];
    while !words.is_at_end() {
        if words.skip("|") {
            groups.push(Vec::new());
        } else if let Target::Node(node) = words.target()? {
            groups.last_mut().expect("there is one").push(node);
        } else {
            return Err(NotUnderstood("a partition names devices by number, as in `n0`".into()));
        }
    }
    if groups.len() < 2 || groups.iter().any(Vec::is_empty) {
        return Err(NotUnderstood("a partition has two groups or more".into()));
    }
    Ok(groups)
}
