//! The end of a container by itself, in words for people.

use super::forms::Inspected;

/// The code of a program that was ended by signal 0; each signal adds its number.
const SIGNAL_BASE: i64 = 128;
const SIGKILL: i64 = 9;

/// The reason of a container's end, as a predicate. `suspects_memory`: the engine never says that a
/// container ran out of memory. `was_ordered`: somebody else told the engine to end or signal it,
/// which explains a signal.
pub(super) fn reason(
    found: &Inspected,
    memory: u64,
    suspects_memory: bool,
    was_ordered: bool,
) -> String {
    let Some(state) = &found.state else { return "ended, and its engine does not say how".into() };
    let code = state.exit_code.unwrap_or(0);
    let signal = signal_name(code - SIGNAL_BASE);
    let memory = bytes(memory);
    if state.oom_killed == Some(true) {
        return if code == SIGNAL_BASE + SIGKILL {
            format!("ran out of its memory of {memory}")
        } else {
            format!("exited with code {code} after a part of it ran out of its memory of {memory}")
        };
    }
    if code == SIGNAL_BASE + SIGKILL && suspects_memory && !was_ordered {
        return format!("was killed by SIGKILL: it may have run out of its memory of {memory}");
    }
    let reason = match signal {
        Some(signal) => format!("was killed by {signal}"),
        None => format!("exited with code {code}"),
    };
    let by = if was_ordered { ", by an order to the engine from outside shoal" } else { "" };
    let reason = format!("{reason}{by}");
    match state.error.as_deref().map(str::trim).filter(|error| !error.is_empty()) {
        Some(error) => format!("{reason}: {error}"),
        None => reason,
    }
}

/// The code with which a program came to its end by itself; none where it ran out of memory, or may
/// have, or the engine tells no code.
pub(super) fn exit_code(
    found: &Inspected,
    suspects_memory: bool,
    was_ordered: bool,
) -> Option<i32> {
    let state = found.state.as_ref()?;
    let code = state.exit_code?;
    let is_killed = code == SIGNAL_BASE + SIGKILL && suspects_memory && !was_ordered;
    let is_told = state.oom_killed != Some(true) && !is_killed;
    i32::try_from(code).ok().filter(|_| is_told)
}

fn signal_name(number: i64) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

/// A number of bytes, in MiB where it is even.
fn bytes(count: u64) -> String {
    if count.is_multiple_of(1 << 20) {
        format!("{} MiB", count >> 20)
    } else {
        format!("{count} bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::super::forms::State;
    use super::*;

    #[test]
    fn code_signal_and_memory_are_told_apart() {
        let of = |exit_code: i64, oom: bool, suspects: bool| {
            let state =
                State { exit_code: Some(exit_code), oom_killed: Some(oom), ..State::default() };
            let found = Inspected { state: Some(state), ..Inspected::default() };
            reason(&found, 64 << 20, suspects, false)
        };
        assert_eq!(of(3, false, false), "exited with code 3");
        assert_eq!(of(0, false, true), "exited with code 0");
        assert_eq!(of(139, false, true), "was killed by SIGSEGV");
        assert_eq!(of(137, true, false), "ran out of its memory of 64 MiB");
        assert_eq!(of(137, false, false), "was killed by SIGKILL");
        assert!(of(137, false, true).contains("may have run out of its memory of 64 MiB"));
        assert!(of(1, true, false).starts_with("exited with code 1 after a part of it ran out"));
        assert_eq!(of(200, false, false), "exited with code 200");
    }

    /// A job is tried again so often by its exit code; a lack of memory is none of its doing.
    #[test]
    fn lack_of_memory_is_no_exit_code() {
        let of = |exit_code: Option<i64>, oom: bool, suspects: bool, was_ordered: bool| {
            let state = State { exit_code, oom_killed: Some(oom), ..State::default() };
            let found = Inspected { state: Some(state), ..Inspected::default() };
            super::exit_code(&found, suspects, was_ordered)
        };
        assert_eq!(of(Some(0), false, true, false), Some(0));
        assert_eq!(of(Some(3), false, true, false), Some(3));
        assert_eq!(of(Some(137), false, false, false), Some(137));
        assert_eq!(of(Some(137), false, true, true), Some(137), "killed by hand");
        assert_eq!(of(Some(137), false, true, false), None, "Podman never says so");
        assert_eq!(of(Some(1), true, false, false), None);
        assert_eq!(of(None, false, false, false), None);
    }

    /// After `podman kill` the reason was a lack of memory.
    #[test]
    fn order_from_outside_explains_a_signal() {
        let of = |exit_code: i64| {
            let state = State { exit_code: Some(exit_code), ..State::default() };
            let found = Inspected { state: Some(state), ..Inspected::default() };
            reason(&found, 64 << 20, true, true)
        };
        assert_eq!(of(137), "was killed by SIGKILL, by an order to the engine from outside shoal");
        assert!(of(143).starts_with("was killed by SIGTERM, by an order"));
    }
}
