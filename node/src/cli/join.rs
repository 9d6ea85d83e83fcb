//! `shoal join`: this device's daemon, as a member of a cluster that is there.

use std::io::Read;

use clap::Args;

use super::context::Context;
use super::error::CliError;
use super::up::Up;

/// Longest text that is read as an invite, bytes.
const LONGEST: u64 = 64 * 1024;

/// Join a cluster with an invite, and run this device's daemon in the foreground
///
/// The invite says all: which cluster, where it is found, and the labels of this device. Started
/// again, `shoal up` goes on as a member.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal join shoal2:..@10.0.0.5:7700\n  ssh gateway shoal invite | \
    shoal join -              # from standard input\n  shoal join @/media/usb/invite.txt           \
    # from a file: no process list shows it\n  shoal join - --name till-7 --http 127.0.0.1:8080 \
    < invite.txt"
)]
pub struct Join {
    /// The line that `shoal invite` prints; `-` reads it from standard input, @FILE from a file
    line: String,
    #[command(flatten)]
    up: Up,
}

impl Join {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let Join { line, mut up } = self;
        if up.join.is_some() {
            return Err(CliError::usage("two invites: leave --join away"));
        }
        up.join = Some(line);
        up.run(context)
    }
}

/// The invite that an argument names.
pub(super) fn invite(argument: &str) -> Result<String, CliError> {
    let read = |from: &mut dyn Read, what: &str| {
        let mut text = String::new();
        match from.take(LONGEST).read_to_string(&mut text) {
            Ok(_) => Ok(text.trim().to_owned()),
            Err(error) => Err(CliError::usage(format!("{what} cannot be read: {error}"))),
        }
    };
    let text = match argument.strip_prefix('@') {
        _ if argument == "-" => read(&mut std::io::stdin().lock(), "the invite")?,
        Some(file) => {
            let mut open = std::fs::File::open(file)
                .map_err(|error| CliError::usage(format!("{file} cannot be read: {error}")))?;
            read(&mut open, file)?
        }
        None => argument.to_owned(),
    };
    if text.is_empty() {
        let why = format!("the invite is empty: `{argument}` has no line in it");
        return Err(CliError::usage(why));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line in a process list is seen by every user of the device.
    #[test]
    fn invite_is_read_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("invite");
        std::fs::write(&file, "  shoal2:abc@a:1\n\n").unwrap();
        let at = format!("@{}", file.display());
        assert_eq!(invite(&at).unwrap(), "shoal2:abc@a:1");
        std::fs::write(&file, "\n").unwrap();
        assert!(invite(&at).unwrap_err().message.contains("is empty"));
        let missing = invite("@/no/such/file").unwrap_err().message;
        assert!(missing.contains("/no/such/file cannot be read"), "{missing}");
        assert_eq!(invite("shoal2:x@b:1").unwrap(), "shoal2:x@b:1");
    }
}
