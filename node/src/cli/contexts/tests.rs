use std::os::unix::fs::PermissionsExt;

use clap::Parser;

use super::*;
use crate::cli::{Cli, Exit, run};
use crate::publish::Founding;

/// Runs a command of this module with the config folder `config`.
fn shoal(config: &Path, line: &str) -> Result<(), CliError> {
    let config = config.to_str().unwrap().to_owned();
    let words = ["shoal", "-q", "--config", &config].map(str::to_owned).into_iter();
    let cli = Cli::try_parse_from(words.chain(line.split(' ').map(str::to_owned))).unwrap();
    run(&cli.context()?, cli.verb)
}

fn chmod(file: &Path, mode: u32) {
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

fn context(config: &Path, line: &str) -> Result<Context, CliError> {
    let config = config.to_str().unwrap();
    let words = ["shoal", "--config", config].into_iter().chain(line.split(' '));
    Cli::try_parse_from(words).unwrap().context()
}

/// A context has its own copy of the key, readable by its owner alone, and its own installation
/// of it; once it is the current one, every verb asks there, except where the command says
/// otherwise.
#[test]
fn context_is_noted_used_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (config, elsewhere) = (folder.path().join("config"), folder.path().join("ann"));
    let made = Founding::draw().unwrap().establish(&elsewhere, "ann").unwrap();
    let file = elsewhere.join(OPERATOR_FILE);
    let file = file.to_str().unwrap();
    shoal(&config, &format!("context add shop --via a:1,b --operator {file}")).unwrap();
    let own = config.join("contexts/shop/operator.json");
    assert_eq!(fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(context(&config, "ps").unwrap().via.is_none(), "noted, and not used yet");
    shoal(&config, "context use shop").unwrap();
    let used = context(&config, "ps").unwrap();
    assert_eq!(used.remote.as_ref().unwrap().addresses, ["a:1", "b:7700"]);
    assert_eq!(used.operator().unwrap().keys().public(), made.keys().public());
    assert!(context(&config, "--socket /x.sock ps").unwrap().via.is_none());
    let other = context(&config, "--via c:2 --context shop ps").unwrap();
    assert_eq!(other.remote.unwrap().addresses, ["c:2"], "the key of a context, elsewhere");
    assert_eq!(shoal(&config, "context use shap").unwrap_err().exit, Exit::NoSuchThing);
    let again = shoal(&config, &format!("context add shop --via a:1 --operator {file}"));
    assert!(again.unwrap_err().message.contains("already"));
    // A `shoal context use` of long ago must not stop a daemon far away.
    let down = shoal(&config, "down").unwrap_err();
    assert_eq!(down.exit, Exit::Usage, "{}", down.message);
    shoal(&config, "context rm shop").unwrap();
    assert!(context(&config, "ps").unwrap().via.is_none() && !own.exists());
}

/// A folder that was deleted by hand is no dead end.
#[test]
fn missing_context_is_named_and_can_be_left() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(CURRENT), "gone\n").unwrap();
    let error = context(folder.path(), "ps").err().unwrap();
    assert!(error.message.contains("no context `gone`"), "{}", error.message);
    shoal(folder.path(), "context use --none").unwrap();
    assert!(context(folder.path(), "ps").unwrap().via.is_none());
    let outside = context(folder.path(), "--context ../x ps").err().unwrap();
    assert_eq!(outside.exit, Exit::Usage);
}

/// A key that others may have read is not used, and the error says what mends it.
#[test]
fn open_keys_are_refused_with_the_command_that_mends_them() {
    let folder = tempfile::tempdir().unwrap();
    Founding::draw().unwrap().establish(folder.path(), "ann").unwrap();
    for name in [OPERATOR_FILE, "root.json"] {
        let file = folder.path().join(name);
        chmod(&file, 0o640);
        let line = format!("--key {} whoami", file.display());
        let error = shoal(folder.path(), &line).unwrap_err();
        assert!(error.message.contains("mode 640"), "{}", error.message);
        assert!(error.hint.unwrap().contains(&format!("chmod 600 {}", file.display())));
        chmod(&file, 0o600);
        shoal(folder.path(), &line).unwrap();
    }
    let missing = shoal(folder.path(), "--key /no/such whoami").unwrap_err();
    assert!(missing.message.contains("/no/such cannot be read"), "{}", missing.message);
}
