//! What a benchmark was told on the command line, to tell an older one the same.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, Subcommand};

use super::Bench;

/// One option with its values, also where they are the default: the older one's may be another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct CliOption {
    /// As in `--runs`.
    pub(super) flag: String,
    /// None for a flag.
    pub(super) values: Vec<String>,
    /// Not the default.
    pub(super) by_user: bool,
}

/// All options of the benchmark that `matches` chose, and its name.
pub(super) fn cli_options(matches: &ArgMatches) -> Option<(String, Vec<CliOption>)> {
    let (name, matches) = matches.subcommand()?;
    let all = Bench::augment_subcommands(Command::new("bench"));
    let known = all.find_subcommand(name)?;
    let options = known.get_arguments().filter_map(|argument| {
        let flag = format!("--{}", argument.get_long()?);
        let id = argument.get_id().as_str();
        let by_user = matches.value_source(id)? == ValueSource::CommandLine;
        if !argument.get_action().takes_values() {
            return by_user.then(|| CliOption { flag, values: Vec::new(), by_user });
        }
        let values =
            matches.get_raw(id)?.map(|value| value.to_string_lossy().into_owned()).collect();
        Some(CliOption { flag, values, by_user })
    });
    Some((name.to_owned(), options.collect()))
}
