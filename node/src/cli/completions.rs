//! `shoal completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::error::CliError;
use super::{Cli, out};

/// Print what makes a shell complete shoal's verbs and options
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal completions bash > \
        ~/.local/share/bash-completion/completions/shoal\n  shoal completions zsh > \
        ~/.zfunc/_shoal   # a folder of $fpath\n  shoal completions fish > \
        ~/.config/fish/completions/shoal.fish")]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "shoal", &mut script);
        out::say_raw(&String::from_utf8_lossy(&script))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each script names the verbs, so that a new one is completed without further work.
    #[test]
    fn scripts_name_the_verbs() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "shoal", &mut script);
            let script = String::from_utf8(script).unwrap();
            for verb in ["publish", "rollback", "dry-run"] {
                assert!(script.contains(verb), "{shell}: {verb}");
            }
        }
    }
}
