//! Options of `docker run` that `shoal run` has not, each with a sentence about what shoal does
//! instead. An option that means the same has the same name and is not here.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::error::CliError;

/// Options of docker, in their long and their short form, and what to do with shoal.
const OPTIONS: &[(&[&str], &str)] = &[
    (
        &["-P", "--publish-all", "--expose"],
        "give the one port that answers HTTP, as in --port 80; every node then serves \
            NAME.localhost",
    ),
    (
        &["--restart"],
        "shoal always starts a container again that has ended, after a pause that doubles, and on \
            another node when it fails too often",
    ),
    (
        &["--rm"],
        "shoal removes each container that has ended, and keeps its logs; `shoal rm NAME` removes \
            the workload",
    ),
    (
        &["-i", "-t", "-a", "--interactive", "--tty", "--attach"],
        "a workload runs on any node; `shoal exec -it NAME sh` opens a shell in it, and \
            `shoal attach NAME` or `shoal logs -f NAME` shows what it writes",
    ),
    (
        &["--gpus"],
        "shoal gives containers no GPUs yet; --require K=V picks the nodes that have what it needs",
    ),
    (
        &["--link", "--network-alias", "--add-host", "--dns"],
        "containers reach every workload as NAME, or NAME.NAMESPACE, at the port that its --port \
            names; other names are those of the node's own name server",
    ),
    (
        &["--mount"],
        "--tmpfs PATH[:size=SIZE] gives it files in memory; see `shoal run --help` for what else \
            can be mounted",
    ),
    (&["-m"], "--memory SIZE reserves it, and is the most; --memory-limit SIZE is a greater most"),
    (
        &["--memory-reservation"],
        "--memory SIZE is what is reserved, and --memory-limit SIZE the most",
    ),
    (&["--memory-swap"], "a container's swap is off: its memory limit counts for both"),
    (&["-c", "--cpu-shares"], "--cpu CORES reserves it, and is its share while others compete"),
    (&["-l", "--label"], "--container-label K=V; --label of `shoal up` is a label of a node"),
    (&["--env-file"], "give each variable with --env K=V, or all of them as `env:` in a manifest"),
    (&["--platform"], "each node runs the image of its own processor"),
    (&["--stop-timeout"], "--stop-grace DURATION, as in --stop-grace 30s"),
    (
        &["--health-cmd", "--health-interval", "--health-retries", "--health-timeout"],
        "with --port a container is healthy once it listens there; commands that probe come later",
    ),
    (&["--log-driver", "--log-opt"], "`shoal logs NAME` has its lines, from whichever node"),
];

/// The error for an option that docker has and shoal has not; none for any other error.
pub fn explain(error: &clap::Error) -> Option<CliError> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else { return None };
    let option = given.split('=').next().unwrap_or(given);
    let (_, instead) = OPTIONS.iter().find(|(names, _)| names.contains(&option))?;
    Some(CliError::usage(format!("{option}: {instead}")))
}

/// Options of shoal that hardly any program has: behind the first word of a command they are most
/// likely a slip.
const OWN: &[&str] = &[
    "--name",
    "--namespace",
    "--replicas",
    "--port",
    "--memory",
    "--memory-limit",
    "--cpu",
    "--cpu-limit",
    "--cpus",
    "--require",
    "--no-wait",
    "--env",
    "--image-name",
    "--pull",
    "--stop-grace",
];

/// The first word of a container's command that looks like an option of shoal.
pub fn own_option(command: &[String]) -> Option<&str> {
    let names = command.iter().map(|word| word.split('=').next().unwrap_or(word));
    names.into_iter().find(|name| OWN.contains(name))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn refusal(options: &[&str]) -> String {
        let words = ["shoal", "run", "--name", "web"].iter().chain(options).chain(&["nginx:1.27"]);
        let error = Cli::try_parse_from(words).err().expect("it is refused");
        explain(&error).map(|error| error.message).unwrap_or_default()
    }

    /// People who come from docker got clap's bare message.
    #[test]
    fn options_of_docker_are_answered_with_what_shoal_does() {
        assert_eq!(
            refusal(&["--rm"]),
            "--rm: shoal removes each container that has ended, and keeps its logs; `shoal rm \
             NAME` removes the workload"
        );
        for options in [
            ["--expose=80", ""],
            ["--restart", "always"],
            ["--rm", ""],
            ["-it", ""],
            ["--gpus", "all"],
            ["--link", "db"],
            ["--mount", "type=bind"],
            ["-m", "64m"],
            ["--label", "a=b"],
        ] {
            let given: Vec<&str> = options.into_iter().filter(|text| !text.is_empty()).collect();
            assert!(!refusal(&given).is_empty(), "{options:?}");
        }
        assert_eq!(refusal(&["--colour"]), "", "clap says that it is not known");
    }

    /// The same words mean the same.
    #[test]
    fn options_are_taken_as_docker_has_them() {
        let words =
            ["shoal", "run", "-d", "-e", "A=b", "--cpus", ".5", "--name", "a", "nginx:1.27"];
        assert!(Cli::try_parse_from(words).is_ok());
    }

    #[test]
    fn option_of_shoal_in_a_command_is_found() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(own_option(&words("redis-server --replicas=2")), Some("--replicas"));
        assert_eq!(own_option(&words("redis-server --appendonly yes")), None);
    }

    #[test]
    fn no_option_of_shoal_is_said_to_be_missing() {
        use clap::CommandFactory;
        let cli = Cli::command();
        let run = cli.find_subcommand("run").expect("there is `run`");
        for argument in run.get_arguments() {
            let long = argument.get_long().map(|name| format!("--{name}"));
            let short = argument.get_short().map(|name| format!("-{name}"));
            for name in long.into_iter().chain(short) {
                assert!(
                    OPTIONS.iter().all(|(names, _)| !names.contains(&name.as_str())),
                    "{name} is an option of shoal"
                );
            }
        }
    }
}
