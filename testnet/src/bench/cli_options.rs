//! The options of a benchmark on the command line, to pass them on to an older commit's.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, Subcommand};

use super::Bench;

/// An option with its values. Defaults are included, since the older commit's may differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct CliOption {
    /// The long form, as in `--runs`.
    pub(super) flag: String,
    /// Empty for a flag.
    pub(super) values: Vec<String>,
    /// Whether the user gave it.
    pub(super) by_user: bool,
}

/// The name of the benchmark that `matches` chose, and its options.
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
