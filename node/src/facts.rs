//! Facts that people publish of a node: lines `NAME=VALUE` in a file, or in what a command prints.
//! Rules of workloads read them by name, as they read those that every node has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use shoal_protocol::model::Facts;
use shoal_protocol::model::spec::{MAX_PUBLISHED, MAX_PUBLISHED_VALUE, is_label_text};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout};

/// The least time between two records for the sake of facts: every node keeps the record of every
/// node.
pub const LEAST_EVERY: Duration = Duration::from_secs(10);
/// The pause between two runs of the command, unless the configuration says otherwise.
pub const EVERY: Duration = Duration::from_secs(30);
/// Time for the command.
const COMMAND_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of the file, or of what the command prints.
const MAX_BYTES: u64 = 64 << 10;
/// Failures in a row after which the facts of a source count no more: a writer may replace the file
/// just now, and a command may be late once.
const PATIENCE: u32 = 3;
/// Bytes of a wrong line, or of what a command says of its failure, in an event.
const MAX_SHOWN: usize = 80;

/// Where the facts come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sources {
    /// A file, read every [`LEAST_EVERY`].
    pub file: Option<PathBuf>,
    /// A program and its arguments; empty for none.
    pub command: Vec<String>,
    /// The pause between two runs of the command.
    pub every: Duration,
}

/// An event for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Noted {
    /// Whether something is wrong.
    pub is_warning: bool,
    /// The event in words.
    pub message: String,
}

/// The facts that a source said last.
#[derive(Default)]
struct Heard {
    facts: BTreeMap<String, String>,
    failures: u32,
    trouble: Option<String>,
}

impl Heard {
    /// Takes what the source says now. An event, if its trouble is another one or is over.
    fn take(
        &mut self,
        source: &str,
        said: Result<String, String>,
        device: &Facts,
    ) -> Option<Noted> {
        let trouble = match said {
            Ok(text) => {
                let (facts, wrong) = read(&text, device);
                (self.facts, self.failures) = (facts, 0);
                wrong.first().map(|first| match wrong.len() {
                    1 => format!("{first}; all else of it counts"),
                    count => format!("{first}; {count} lines are left out"),
                })
            }
            Err(why) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= PATIENCE {
                    self.facts.clear();
                }
                let is_gone = self.failures >= PATIENCE;
                let what = if is_gone { "its facts are gone" } else { "its facts stay for now" };
                Some(format!("{why}; {what}"))
            }
        };
        if trouble == self.trouble {
            return None;
        }
        self.trouble = trouble;
        Some(match &self.trouble {
            Some(why) => Noted { is_warning: true, message: format!("{source}: {why}") },
            None => Noted { is_warning: false, message: format!("{source} is read again") },
        })
    }
}

/// The facts in a text, and what is wrong with its lines.
fn read(text: &str, device: &Facts) -> (BTreeMap<String, String>, Vec<String>) {
    let (mut facts, mut wrong) = (BTreeMap::new(), Vec::new());
    let most = MAX_PUBLISHED.saturating_sub(device.published.len());
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match fact(line, device) {
            Err(why) => wrong.push(format!("line {}: {why}", at + 1)),
            Ok((name, _)) if facts.contains_key(name) => {
                wrong.push(format!("line {}: `{name}` stands twice", at + 1));
            }
            Ok(_) if facts.len() >= most => {
                wrong.push(format!("line {}: more than {most} facts", at + 1));
            }
            Ok((name, value)) => _ = facts.insert(name.to_owned(), value.to_owned()),
        }
    }
    (facts, wrong)
}

fn fact<'a>(line: &'a str, device: &Facts) -> Result<(&'a str, &'a str), String> {
    let Some((name, value)) = line.split_once('=') else {
        return Err(format!("`{}` is not NAME=VALUE", shown(line)));
    };
    let (name, value) = (name.trim(), value.trim());
    if !is_label_text(name) {
        let expected = "1 to 63 letters, digits, `-`, `_`, `.` and `/`";
        return Err(format!("`{}` is no name of a fact: {expected}", shown(name)));
    }
    if device.names_fact(name) {
        return Err(format!("`{name}` is a fact that shoal itself tells"));
    }
    if device.labels.contains_key(name) {
        return Err(format!("`{name}` is a label of this node"));
    }
    if value.is_empty() || value.len() > MAX_PUBLISHED_VALUE || value.contains(char::is_control) {
        return Err(format!("the value of `{name}` has not 1 to {MAX_PUBLISHED_VALUE} bytes"));
    }
    Ok((name, value))
}

fn shown(text: &str) -> String {
    let text: String = text.chars().filter(|it| !it.is_control()).take(MAX_SHOWN).collect();
    text.trim().to_owned()
}

/// Reads the sources when it is time, and says what is to be told.
pub struct Outside {
    sources: Sources,
    /// The facts and labels that this node has without them.
    device: Facts,
    file: Heard,
    command: Heard,
    file_due: Instant,
    command_due: Instant,
    told: BTreeMap<String, String>,
    /// The earliest time of the next telling.
    may_tell: Instant,
}

impl Outside {
    /// Sources of a node that has these facts without them.
    pub fn new(sources: Sources, device: Facts, now: Instant) -> Outside {
        Outside {
            sources,
            device,
            file: Heard::default(),
            command: Heard::default(),
            file_due: now,
            command_due: now,
            told: BTreeMap::new(),
            may_tell: now,
        }
    }

    /// Whether there is a source at all.
    pub fn is_needed(&self) -> bool {
        self.sources.file.is_some() || !self.sources.command.is_empty()
    }

    /// When to ask again.
    pub fn due(&self) -> Instant {
        let mut due = self.file_due.min(self.command_due);
        if self.merged() != self.told {
            due = due.min(self.may_tell);
        }
        due
    }

    /// Reads each source that is due at `now`.
    pub async fn look(&mut self, now: Instant) -> Vec<Noted> {
        let mut noted = Vec::new();
        if now >= self.file_due {
            self.file_due = now + LEAST_EVERY;
            if let Some(file) = self.sources.file.clone() {
                let said = of_file(&file).await;
                noted.extend(self.on_file(said));
            }
        }
        if now >= self.command_due {
            self.command_due = now + self.sources.every;
            if !self.sources.command.is_empty() {
                let said = of_command(&self.sources.command).await;
                noted.extend(self.on_command(said));
            }
        }
        noted
    }

    fn on_file(&mut self, said: Result<String, String>) -> Option<Noted> {
        let name = self.sources.file.as_deref().unwrap_or(Path::new("")).display().to_string();
        self.file.take(&format!("the facts file {name}"), said, &self.device)
    }

    fn on_command(&mut self, said: Result<String, String>) -> Option<Noted> {
        let name = self.sources.command.first().cloned().unwrap_or_default();
        self.command.take(&format!("the facts command `{name}`"), said, &self.device)
    }

    /// All facts to be told, if they are others than before and it is time.
    pub fn news(&mut self, now: Instant) -> Option<BTreeMap<String, String>> {
        let merged = self.merged();
        if merged == self.told || now < self.may_tell {
            return None;
        }
        self.told = merged.clone();
        self.may_tell = now + LEAST_EVERY;
        Some(merged)
    }

    /// The facts of both sources over those of the node. The file wins: a person wrote it.
    fn merged(&self) -> BTreeMap<String, String> {
        let mut all = self.device.published.clone();
        let said = self.file.facts.iter().chain(&self.command.facts);
        for (name, value) in said {
            if all.len() < MAX_PUBLISHED {
                all.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        all
    }
}

async fn of_file(file: &Path) -> Result<String, String> {
    let read = async {
        let opened = tokio::fs::File::open(file).await.map_err(|error| error.to_string())?;
        text_of(opened).await
    };
    // A pipe or a file of a network may never answer.
    timeout(COMMAND_WITHIN, read).await.unwrap_or_else(|_| Err("it takes too long".into()))
}

/// Runs the command in a group of its own, so that nothing of it outlives the time.
async fn of_command(words: &[String]) -> Result<String, String> {
    let Some((program, args)) = words.split_first() else { return Ok(String::new()) };
    let mut command = tokio::process::Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let out = child.stdout.take();
    let run = async {
        let text = match out {
            Some(out) => text_of(out).await?,
            None => String::new(),
        };
        let status = child.wait().await.map_err(|error| error.to_string())?;
        if status.success() { Ok(text) } else { Err(format!("it ended with {status}")) }
    };
    let ran = timeout(COMMAND_WITHIN, run).await;
    let late = Err(format!("it was not done within {COMMAND_WITHIN:?}, and was ended"));
    let said = ran.unwrap_or(late);
    // Programs that it left behind end as well.
    if said.is_err()
        && let Some(group) = group
    {
        _ = kill_process_group(group, Signal::KILL);
    }
    said
}

/// All of it, if it is not too long.
async fn text_of(from: impl AsyncRead + Unpin) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = from.take(MAX_BYTES + 1).read_to_end(&mut bytes).await;
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it has more than {} KiB", MAX_BYTES >> 10));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Facts {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Facts {
            labels: [pair("zone", "shop")].into(),
            published: [pair("os", "linux")].into(),
            ..Facts::default()
        }
    }

    fn outside(now: Instant) -> Outside {
        let sources = Sources {
            file: Some("/run/facts".into()),
            command: vec!["measure".into()],
            every: EVERY,
        };
        Outside::new(sources, device(), now)
    }

    /// Numbers keep their text: `007` may be a part's number.
    #[test]
    fn lines_are_facts_and_wrong_ones_are_left_out() {
        let text = "# of the till\n\nbattery = 20\nserial=007\nmodel=a=b\n";
        let (facts, wrong) = read(text, &device());
        let told: Vec<_> = facts.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        assert_eq!((told.join(" "), wrong.len()), ("battery:20 model:a=b serial:007".into(), 0));
        for (line, why) in [
            ("battery", "line 1: `battery` is not NAME=VALUE"),
            ("a b=1", "line 1: `a b` is no name of a fact"),
            ("zone=x", "line 1: `zone` is a label of this node"),
            ("arch=x", "line 1: `arch` is a fact that shoal itself tells"),
            ("os=x", "line 1: `os` is a fact that shoal itself tells"),
            ("disk.free=1", "line 1: `disk.free` is a fact that shoal itself tells"),
            ("a=", "line 1: the value of `a` has not 1 to 63 bytes"),
            ("a=1\na=2", "line 2: `a` stands twice"),
        ] {
            let (_, wrong) = read(line, &device());
            assert!(wrong.len() == 1 && wrong[0].starts_with(why), "{line}: {wrong:?}");
        }
        let many: String = (0..500).map(|n| format!("f{n}=1\n")).collect();
        let (facts, wrong) = read(&many, &device());
        assert_eq!((facts.len(), wrong.len()), (MAX_PUBLISHED - 1, 500 + 1 - MAX_PUBLISHED));
    }

    /// A sensor that changes all the time must not make every node store a record all the time.
    #[test]
    fn facts_are_told_when_they_change_and_not_too_often() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut outside = outside(start);
        let said = |value: &str| Ok(format!("battery={value}"));
        outside.on_file(said("50"));
        let news = outside.news(at(0)).unwrap();
        assert_eq!((news["battery"].as_str(), news["os"].as_str()), ("50", "linux"));
        outside.on_file(said("50"));
        assert_eq!(outside.news(at(30)), None, "nothing has changed");
        outside.on_command(Ok("battery=1\nlink=lte".into()));
        let news = outside.news(at(30)).unwrap();
        assert_eq!((news["battery"].as_str(), news["link"].as_str()), ("50", "lte"));
        outside.on_file(said("49"));
        assert_eq!(outside.news(at(31)), None, "too soon");
        assert_eq!(outside.news(at(39)), None);
        outside.on_file(said("48"));
        assert_eq!(outside.news(at(40)).unwrap()["battery"], "48");
    }

    /// A sentence for each new trouble, none while it stays, and facts that outlive a hiccup.
    #[test]
    fn failing_source_is_told_once_and_loses_its_facts_in_the_end() {
        let start = Instant::now();
        let mut outside = outside(start);
        assert_eq!(outside.on_file(Ok("battery=50".into())), None);
        let gone = || Err("No such file".to_owned());
        let noted = outside.on_file(gone()).unwrap();
        let message = "the facts file /run/facts: No such file; its facts stay for now";
        assert_eq!(noted, Noted { is_warning: true, message: message.into() });
        assert_eq!(outside.on_file(gone()), None);
        assert_eq!(outside.news(start).unwrap()["battery"], "50");
        let noted = outside.on_file(gone()).unwrap();
        assert!(noted.message.ends_with("its facts are gone"), "{noted:?}");
        assert!(!outside.news(start + LEAST_EVERY).unwrap().contains_key("battery"));
        let noted = outside.on_file(Ok("battery=50".into())).unwrap();
        assert!(!noted.is_warning, "{noted:?}");
        let noted = outside.on_file(Ok("battery=50\nx".into())).unwrap();
        assert!(noted.message.contains("line 2: `x` is not NAME=VALUE"), "{noted:?}");
    }

    #[tokio::test]
    async fn command_says_facts_or_why_it_cannot() {
        let run = async |script: &str| of_command(&["sh".into(), "-c".into(), script.into()]).await;
        assert_eq!(run("echo battery=7").await, Ok("battery=7\n".into()));
        assert!(run("exit 3").await.unwrap_err().contains("exit status: 3"));
        assert!(run("yes").await.unwrap_err().contains("more than 64 KiB"));
        let error = of_command(&["/no/such/program".into()]).await.unwrap_err();
        assert!(error.starts_with("it cannot be started"), "{error}");
    }

    #[tokio::test]
    async fn file_is_read_within_its_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("facts");
        assert!(of_file(&file).await.is_err());
        std::fs::write(&file, "a=1\n").unwrap();
        assert_eq!(of_file(&file).await, Ok("a=1\n".into()));
        std::fs::write(&file, vec![b'a'; 65 << 10]).unwrap();
        assert!(of_file(&file).await.unwrap_err().contains("more than 64 KiB"));
        std::fs::write(&file, [0xff]).unwrap();
        assert_eq!(of_file(&file).await, Err("it is not UTF-8".into()));
    }
}
