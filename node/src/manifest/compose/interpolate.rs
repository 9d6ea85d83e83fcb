//! `${NAME}` in the values of a Compose file.

/// Expressions within expressions.
const MAX_DEPTH: usize = 32;

/// The variables that a text refers to.
pub(super) trait Variables {
    /// The value of a variable.
    fn get(&self, name: &str) -> Option<&str>;
    /// A variable without a value is taken as an empty text.
    fn unset(&mut self, name: &str);
}

/// The text with its expressions replaced. `$$` is a dollar sign, and so is one before anything
/// that is no name.
///
/// # Errors
/// An expression has another form, or asks for a variable that is missing.
pub(super) fn interpolate(text: &str, vars: &mut impl Variables) -> Result<String, String> {
    within(text, vars, 0)
}

fn within(text: &str, vars: &mut impl Variables, depth: usize) -> Result<String, String> {
    if depth > MAX_DEPTH {
        return Err(format!("more than {MAX_DEPTH} expressions within one another"));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('{') {
            let end = closing(inner).ok_or_else(|| {
                format!("`${{{inner}` has no closing `}}`; write `$$` for a dollar sign")
            })?;
            let (expression, after) = inner.split_at(end);
            out.push_str(&braced(expression, vars, depth)?);
            rest = after.get(1..).unwrap_or_default();
        } else {
            let (name, after) = name(rest);
            match name {
                "" => out.push('$'),
                name => out.push_str(&value(name, vars)),
            }
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The name at the beginning of a text, and what follows.
fn name(text: &str) -> (&str, &str) {
    let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return ("", text);
    }
    text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()))
}

fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if before == '$' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
        before = c;
    }
    None
}

fn value(name: &str, vars: &mut impl Variables) -> String {
    match vars.get(name).map(str::to_owned) {
        Some(value) => value,
        None => {
            vars.unset(name);
            String::new()
        }
    }
}

fn braced(text: &str, vars: &mut impl Variables, depth: usize) -> Result<String, String> {
    let (name, rest) = name(text);
    let wrong = || {
        format!(
            "`${{{text}}}` has no form that Compose knows: ${{NAME}}, ${{NAME:-default}}, \
             ${{NAME-default}}, ${{NAME:?message}}, ${{NAME?message}} and ${{NAME:+value}} are; \
             write `$$` for a dollar sign"
        )
    };
    if name.is_empty() {
        return Err(wrong());
    }
    if rest.is_empty() {
        return Ok(value(name, vars));
    }
    let (colon, rest) = rest.strip_prefix(':').map_or((false, rest), |rest| (true, rest));
    let mut chars = rest.chars();
    let (operator, rest) = (chars.next(), chars.as_str());
    // With a colon an empty value is as none.
    let set = vars.get(name).filter(|value| !colon || !value.is_empty()).map(str::to_owned);
    match (operator, set) {
        (Some('-'), Some(value)) | (Some('?'), Some(value)) => Ok(value),
        (Some('-'), None) | (Some('+'), Some(_)) => within(rest, vars, depth + 1),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) => {
            let why = within(rest, vars, depth + 1)?;
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            Err(format!("the variable {name} is required and has no value{why}"))
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Shell(Vec<String>);

    impl Variables for Shell {
        fn get(&self, name: &str) -> Option<&str> {
            match name {
                "A" => Some("a"),
                "E" => Some(""),
                _ => None,
            }
        }

        fn unset(&mut self, name: &str) {
            self.0.push(name.to_owned());
        }
    }

    #[test]
    fn forms_of_compose_are_replaced() {
        for (text, expected) in [
            ("$A-${A}", "a-a"),
            ("$$A $1 $( a$", "$A $1 $( a$"),
            ("${X:-a:b}", "a:b"),
            ("${E:-x}${E-x}", "x"),
            ("${X:-${A}}", "a"),
            ("${X:-${Y:-{}}}", "{}"),
            ("${A:+x}${E:+y}${E+z}", "xz"),
            ("${A?no}", "a"),
            ("<$X>", "<>"),
        ] {
            assert_eq!(interpolate(text, &mut Shell::default()).as_deref(), Ok(expected), "{text}");
        }
        let mut vars = Shell::default();
        interpolate("$X ${Y} ${Z:-}", &mut vars).unwrap();
        assert_eq!(vars.0, ["X", "Y"]);
    }

    #[test]
    fn other_forms_are_refused() {
        for text in ["${1}", "${V:=x}", "${V#x}", "${ V }", "${A.B}", "${}", "${A"] {
            assert!(interpolate(text, &mut Shell::default()).is_err(), "{text}");
        }
        let refused = interpolate("${Q:?set Q}", &mut Shell::default()).unwrap_err();
        assert_eq!(refused, "the variable Q is required and has no value: set Q");
        let deep = "${X:-".repeat(100) + &"}".repeat(100);
        assert!(interpolate(&deep, &mut Shell::default()).unwrap_err().contains("more than 32"));
    }
}
