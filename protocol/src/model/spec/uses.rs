//! What is counted beside memory and CPU: which names and amounts there may be, and how people
//! write them.

use super::super::resources::{Amounts, DISK};
use super::{InvalidSpec, SpecForm, is_label_text, shown};

/// Kinds of countable resources of one node, or of one workload, besides disk.
pub const MAX_KINDS: usize = 32;
/// The greatest amount of one kind.
pub const MAX_AMOUNT: u64 = 1_000_000;
/// The greatest amount of disk, 1 PiB.
pub const MAX_DISK: u64 = 1 << 50;
/// The bounds of a priority, on both sides of 0.
pub const MAX_PRIORITY: i32 = 1_000;
/// Names that have keys of their own.
const RESERVED: [&str; 3] = [DISK, "memory", "cpu"];

/// Why these amounts cannot be; `None` if they can.
pub fn wrong_amounts(amounts: &Amounts) -> Option<String> {
    let kinds = amounts.devices().count();
    if kinds > MAX_KINDS {
        return Some(format!("{kinds} kinds, at most {MAX_KINDS} are allowed"));
    }
    amounts.devices().find_map(|(name, amount)| wrong_amount(name, amount))
}

/// Why there cannot be so much of a name.
pub fn wrong_amount(name: &str, amount: u64) -> Option<String> {
    if RESERVED.contains(&name) {
        return Some(format!("`{name}` has a key of its own, `{name}`"));
    }
    if !is_label_text(name) {
        let expected = "1 to 63 letters, digits, `-`, `_`, `.` and `/` are expected";
        return Some(format!("`{name}` is no name of a resource: {expected}"));
    }
    (!(1..=MAX_AMOUNT).contains(&amount))
        .then(|| format!("{amount} of `{name}` is outside 1 to {MAX_AMOUNT}"))
}

/// Why there cannot be such a priority.
pub fn wrong_priority(priority: i32) -> Option<String> {
    (!(-MAX_PRIORITY..=MAX_PRIORITY).contains(&priority))
        .then(|| format!("{priority} is outside -{MAX_PRIORITY} to {MAX_PRIORITY}"))
}

/// An amount as people write it.
pub fn counted(name: &str, amount: u64) -> String {
    match name {
        DISK => shown::size(amount),
        _ => amount.to_string(),
    }
}

/// All devices in one text, as `camera=1, gpu=2`.
pub fn devices(amounts: &Amounts) -> String {
    let all = amounts.devices().map(|(name, amount)| format!("{name}={amount}"));
    all.collect::<Vec<_>>().join(", ")
}

/// Bytes as people write them.
pub(in crate::model) fn size(bytes: u64) -> String {
    shown::size(bytes)
}

/// Amounts of a record that can be kept: few, and each allowed.
pub(in crate::model) fn kept_amounts(amounts: Amounts) -> Amounts {
    let disk = amounts.of(DISK).min(MAX_DISK);
    let allowed = amounts.devices().filter(|(name, amount)| wrong_amount(name, *amount).is_none());
    let allowed = allowed.take(MAX_KINDS).map(|(name, amount)| (name.to_owned(), amount));
    allowed.chain([(DISK.to_owned(), disk)]).collect()
}

/// Checks what replicas of a form take.
pub(super) fn check(form: &SpecForm) -> Result<(), InvalidSpec> {
    let uses = &form.later.uses;
    if let Some(why) = wrong_amounts(uses) {
        return Err(InvalidSpec::Container { field: "resources", why });
    }
    let priority = form.later.priority;
    if let Some(why) = wrong_priority(priority) {
        return Err(InvalidSpec::Container { field: "priority", why });
    }
    let disk = uses.of(DISK);
    if disk > MAX_DISK {
        let why = format!("{} is more than {}", size(disk), size(MAX_DISK));
        return Err(InvalidSpec::Container { field: "disk", why });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(all: &[(&str, u64)]) -> Amounts {
        all.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect()
    }

    #[test]
    fn amounts_are_few_and_named_as_labels() {
        assert_eq!(wrong_amounts(&amounts(&[("camera", 1), ("nvidia.com/gpu", 1_000_000)])), None);
        for (name, amount, part) in [
            ("a b", 1, "`a b` is no name"),
            ("gpu", 1_000_001, "1000001 of `gpu` is outside 1 to 1000000"),
            ("memory", 5, "`memory` has a key of its own"),
        ] {
            let why = wrong_amounts(&amounts(&[(name, amount)])).unwrap();
            assert!(why.contains(part), "{why}");
        }
        let many: Amounts = (0..33).map(|n| (format!("kind{n}"), 1)).collect();
        assert!(wrong_amounts(&many).unwrap().starts_with("33 kinds"));
    }

    /// Every node keeps the record of every node: one must not fill the others' memory.
    #[test]
    fn amounts_of_a_record_are_bounded() {
        let mut many: Amounts = (0..500).map(|n| (format!("kind{n:03}"), 1)).collect();
        many.set(DISK, u64::MAX);
        many.set("a b", 1);
        many.set("much", MAX_AMOUNT + 1);
        let kept = kept_amounts(many);
        assert_eq!((kept.len(), kept.of(DISK)), (MAX_KINDS + 1, MAX_DISK));
        assert_eq!((kept.of("a b"), kept.of("much")), (0, 0));
        assert_eq!(devices(&amounts(&[("gpu", 2), ("camera", 1), (DISK, 5)])), "camera=1, gpu=2");
    }
}
