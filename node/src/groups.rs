//! The groups of this device, by name and by number, as `/etc/group` has them.

use std::fs;

/// The file of groups. Groups of a directory service are named by number.
const FILE: &str = "/etc/group";

/// The number of a group; a number stands for itself.
pub fn number_of(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| find(&fs::read_to_string(FILE).ok()?, |it, _| it == name)?.1)
}

/// The name of a group, or its number where it has none.
pub fn name_of(number: u32) -> String {
    let text = fs::read_to_string(FILE).unwrap_or_default();
    find(&text, |_, its| its == Some(number)).map_or_else(|| number.to_string(), |it| it.0)
}

fn find(text: &str, is_it: impl Fn(&str, Option<u32>) -> bool) -> Option<(String, Option<u32>)> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?.parse().ok();
        is_it(name, number).then(|| (name.to_owned(), number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_both_ways() {
        let text = "root:x:0:\nbroken\ndocker:x:998:ann,bob\n";
        assert_eq!(find(text, |name, _| name == "docker"), Some(("docker".into(), Some(998))));
        assert_eq!(find(text, |_, its| its == Some(998)).unwrap().0, "docker");
        assert_eq!(find(text, |name, _| name == "broken"), None);
        assert_eq!(number_of("4711"), Some(4711));
        assert_eq!(number_of("no such group"), None);
    }
}
