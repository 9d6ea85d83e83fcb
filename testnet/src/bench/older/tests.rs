use clap::{CommandFactory, Parser};

use super::*;
use crate::bench::cli_options::cli_options;
use crate::bench::{Bench, Benches};

/// Help of a benchmark, in clap's styles of two ages.
const HELP: &str = "Lose the node of a one-replica workload, until a survivor answers

Usage: cargo testnet bench failover [OPTIONS]

Options:
      --case <CASES>
          Only this case; may be given several times

          Possible values:
          - kill: kill -9
          - cut:  Its link is cut

      --runs <RUNS>
          How many losses a case. More than --seconds of any other

          [default: 30]

      --weather <WEATHER>
          [possible values: calm, storm]

  -h, --help
          Print help (see a summary with '-h')
";

fn one(flag: &str, values: &[&str], by_user: bool) -> CliOption {
    CliOption {
        flag: flag.into(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
        by_user,
    }
}

fn passed(given: &[CliOption]) -> Option<String> {
    SupportedOptions { help: HELP.into() }.pass(given, "HEAD~20").map(|options| options.join(" "))
}

/// The older commit knows fewer options and values than today's benchmark. Unknown ones are left
/// out, unless nothing of what the user asked for is left.
#[test]
fn options_are_passed_on_where_the_commit_has_them() {
    let runs = one("--runs", &["5"], false);
    assert_eq!(passed(std::slice::from_ref(&runs)).as_deref(), Some("--runs 5"), "defaults, too");
    assert_eq!(
        passed(&[one("--swarm-times", &["0"], false), runs.clone()]).as_deref(),
        Some("--runs 5")
    );
    assert_eq!(
        passed(&[one("--seconds", &["5"], true), runs.clone()]).as_deref(),
        Some("--runs 5")
    );
    let cases = one("--case", &["kill", "bridges", "cut"], true);
    assert_eq!(passed(&[cases, runs]).as_deref(), Some("--case kill --case cut --runs 5"));
    assert_eq!(passed(&[one("--weather", &["storm"], true)]).as_deref(), Some("--weather storm"));
    assert_eq!(passed(&[one("--weather", &["hail"], true)]), None);
    // The commit knows no case that was asked for: today's figures stand alone.
    assert_eq!(passed(&[one("--case", &["bridges"], true)]), None);
    assert_eq!(passed(&[one("--case", &["kil"], true)]), None);
}

#[derive(Parser)]
struct Whole {
    #[command(flatten)]
    benches: Benches,
}

/// An option that the user did not give is passed on with today's default, since the older commit's
/// may differ; Swarm is off unless the user asks for it.
#[test]
fn command_line_is_read_with_its_defaults() {
    let words = [
        "bench",
        "--against",
        "publish",
        "failover",
        "--case",
        "kill",
        "--case",
        "cut",
        "--runs",
        "7",
    ];
    let matches = Whole::command().get_matches_from(words);
    let (name, given) = cli_options(&matches).unwrap();
    assert_eq!(name, "failover");
    let expected = [
        one("--case", &["kill", "cut"], true),
        one("--runs", &["7"], true),
        one("--swarm-times", &["3"], false),
    ];
    assert_eq!(given, expected);
    let Benches { bench, .. } = Whole::parse_from(words).benches;
    let mut given = given;
    assert!(matches!(
        bench.with_comparison_defaults(&mut given),
        Bench::Failover { swarm_times: 0, runs: 7, .. }
    ));
    assert_eq!(given[2].values, ["0"]);
    let words = ["bench", "--against", "HEAD", "failover", "--swarm-times", "1"];
    let (_, mut given) =
        super::super::cli_options::cli_options(&Whole::command().get_matches_from(words)).unwrap();
    let bench = Whole::parse_from(words).benches.bench.with_comparison_defaults(&mut given);
    assert!(matches!(bench, Bench::Failover { swarm_times: 1, .. }), "the user wants it");
    assert!(
        Whole::try_parse_from(["bench", "--rounds", "3", "publish"]).is_err(),
        "rounds of what?"
    );
}

/// A repository with minimal programs; each commit replaces its testnet's source.
struct Repository {
    folder: PathBuf,
    today: Workspace,
}

impl Repository {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("shoal-older-{}-{name}", std::process::id()));
        let root = folder.join("repository");
        for package in ["shoal", "shoal-testnet"] {
            let source = root.join(package).join("src");
            fs::create_dir_all(&source).unwrap();
            let manifest = format!(
                "[package]\nname = \"{package}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n"
            );
            let bin = if package == "shoal" {
                ""
            } else {
                "[[bin]]\nname = \"testnet\"\npath = \"src/main.rs\"\n"
            };
            fs::write(root.join(package).join("Cargo.toml"), manifest + bin).unwrap();
            fs::write(source.join("main.rs"), "fn main() {}\n").unwrap();
        }
        fs::write(
            root.join("Cargo.toml"),
            "[workspace]\nresolver = \"3\"\nmembers = [\"shoal\", \"shoal-testnet\"]\n",
        )
        .unwrap();
        let lock = "version = 4\n\n[[package]]\nname = \"shoal\"\nversion \
            = \"0.0.0\"\n\n[[package]]\nname = \"shoal-testnet\"\nversion = \"0.0.0\"\n";
        fs::write(root.join("Cargo.lock"), lock).unwrap();
        let mut init = git(&root);
        init.args(["init", "--quiet"]);
        stdout_of(init).unwrap();
        let today = Workspace::find().unwrap().beside(root, folder.join("target"));
        Repository { folder, today }
    }

    /// Commits a source of testnet; returns the commit's hash.
    fn commit(&self, testnet: &str) -> String {
        fs::write(self.today.root.join("shoal-testnet/src/main.rs"), testnet).unwrap();
        let as_somebody =
            ["-c", "user.name=n", "-c", "user.email=n@n", "-c", "commit.gpgsign=false"];
        for arguments in [&["add", "-A"][..], &["commit", "--quiet", "-m", "a commit"][..]] {
            let mut git = git(&self.today.root);
            git.args(as_somebody).args(arguments);
            stdout_of(git).unwrap();
        }
        resolve(&self.today.root, "HEAD").unwrap()
    }

    fn left(&self) -> Vec<PathBuf> {
        let Ok(folders) = fs::read_dir(self.today.target.join("against")) else {
            return Vec::new();
        };
        folders.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Knows `publish --runs`; prints its arguments and its folder.
const TESTNET: &str = r##"fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words[1] != "publish" { eprintln!("error: unrecognized subcommand"); std::process::exit(2) }
    if words[2] == "--help" { println!("Options:\n      --runs <RUNS>\n          How \
        many"); return }
    if words[3] == "13" { std::process::exit(1) }
    println!("{} in {}", words.join(" "), std::env::current_dir().unwrap().display());
    println!("foreign: \
        {}", std::env::vars().any(|(name, _)| name == "SHOAL_BIN" || name == "CARGO_MANIFEST_DIR"));
    let n = &words[3];
    println!(r#"{{"bench":"publish","case":"warm","unit":"ms","n":{n},"p50":12.5,"new":1}}"#);
}
"##;

/// A commit is measured although a later one does not build; its clone is kept, and refused once
/// somebody has changed it.
#[test]
fn commit_is_cloned_built_and_measured() {
    let repository = Repository::new("measured");
    let commit = repository.commit(TESTNET);
    repository.commit("fn main() { compile_error!(\"today's is not what is built\") }\n");
    let older = OlderCommit::prepare(&repository.today, "HEAD~1").unwrap();
    assert!(commit.starts_with(&older.short));
    assert!(older.supported_options("failover").unwrap().is_none(), "it has no such benchmark");
    let supported = older.supported_options("publish").unwrap().unwrap();
    let options = supported
        .pass(&[one("--runs", &["3"], true), one("--cases", &["x"], false)], "HEAD~1")
        .unwrap();
    assert_eq!(options, ["--runs", "3"]);
    let measured = older.measure("publish", &options).unwrap();
    assert_eq!(
        measured,
        [BaselineCase::of_line(r#"{"bench":"publish","case":"warm","unit":"ms","p50":12.5}"#)
            .unwrap()]
    );
    let error =
        format!("{:#}", older.measure("publish", &["--runs".into(), "13".into()]).unwrap_err());
    assert!(error.contains("of HEAD~1 failed: exit status: 1"), "{error}");
    // The clone is used again, but refused once somebody has changed it.
    OlderCommit::prepare(&repository.today, &commit).unwrap();
    let main = older.workspace.root.join("shoal-testnet/src/main.rs");
    fs::write(main, "fn main() {}").unwrap();
    let error = OlderCommit::prepare(&repository.today, &commit).err().unwrap().to_string();
    assert!(error.contains("not as it was cloned"), "{error}");
}

#[test]
fn unknown_or_broken_commit_leaves_no_folder() {
    let repository = Repository::new("broken");
    repository.commit("fn main() { this is no program }\n");
    for wrong in ["no-such-commit", "HEAD~7", "--help", ""] {
        let error = OlderCommit::prepare(&repository.today, wrong).err().unwrap().to_string();
        assert!(error.starts_with(&format!("--against: `{wrong}` names no commit")), "{error}");
    }
    assert_eq!(repository.left(), Vec::<PathBuf>::new());
    let error = format!("{:#}", OlderCommit::prepare(&repository.today, "HEAD").err().unwrap());
    assert!(error.contains("cannot be built here") && error.contains("cargo build"), "{error}");
    assert_eq!(repository.left(), Vec::<PathBuf>::new());
}
