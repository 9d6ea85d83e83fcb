//! Countable resources of an option, as `camera=1`.

use shoal_protocol::model::spec::{wrong_amount, wrong_priority};

use crate::manifest::quantity;

/// A name and an amount: `camera=1`, or `camera` for one.
pub(crate) fn amount(text: &str) -> Result<(String, u64), String> {
    let (name, number) = text.split_once('=').unwrap_or((text, "1"));
    let number = quantity::count(number).map_err(|error| error.to_string())?;
    match wrong_amount(name, number.into()) {
        Some(why) => Err(why),
        None => Ok((name.to_owned(), number.into())),
    }
}

/// A priority: a number that may be negative.
pub(crate) fn priority(text: &str) -> Result<i32, String> {
    let wrong = || format!("`{text}` is no priority: a number from -1000 to 1000 is expected");
    let priority: i32 = text.parse().map_err(|_| wrong())?;
    match wrong_priority(priority) {
        Some(why) => Err(why),
        None => Ok(priority),
    }
}

/// Whether nothing is reserved: `none` is the only word.
pub(crate) fn reserve(text: &str) -> Result<bool, String> {
    match text {
        "none" => Ok(true),
        _ => Err(format!("`{text}` is not `none`; what is reserved are `memory` and `cpu`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_names() {
        assert_eq!(amount("gpu=2"), Ok(("gpu".into(), 2)));
        assert_eq!(amount("nvidia.com/gpu"), Ok(("nvidia.com/gpu".into(), 1)));
        for (text, part) in [
            ("gpu=-1", "`-1` is not a number"),
            ("gpu=0", "0 of `gpu` is outside 1 to 1000000"),
            ("gpu=4000000", "4000000 of `gpu` is outside"),
            ("gpu=1.5", "`1.5` is not a number"),
            ("=1", "`` is no name of a resource"),
            ("memory=1", "`memory` has a key of its own"),
        ] {
            let why = amount(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
