//! Suggestions for mistyped words.

/// The candidate nearest to `word`, if it is near enough to be a typo: about a third of the letters
/// may differ.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(LONGEST).collect();
    let allowed = ((word.len() + 1) / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| {
            let letters: Vec<char> = candidate.to_lowercase().chars().take(LONGEST).collect();
            let starts = word.len() >= 2 && letters.starts_with(&word);
            let distance = if starts { 1 } else { distance(&word, &letters) };
            (distance, candidate)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The hint "Did you mean ..?" for the nearest candidate, so that every error words it alike.
pub fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("Did you mean `{candidate}`?"))
}

/// Longest compared word. Names are DNS labels, and the table below is quadratic.
const LONGEST: usize = 130;

/// The number of insertions, deletions, substitutions and swaps of neighbours that turn one into
/// the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Missing, swapped and differently cased letters lead to the intended field.
    #[test]
    fn typos_are_recognized() {
        let fields = ["name", "namespace", "replicas", "memory", "env"];
        assert_eq!(nearest("replica", fields), Some("replicas"));
        assert_eq!(nearest("repilcas", fields), Some("replicas"));
        assert_eq!(nearest("Memroy", fields), Some("memory"));
        assert_eq!(nearest("evn", fields), Some("env"));
    }

    /// A wrong suggestion is worse than none.
    #[test]
    fn distant_words_are_not_suggested() {
        assert_eq!(nearest("volumes", ["name", "env"]), None);
        assert_eq!(nearest("", ["name"]), None);
        assert_eq!(nearest("x", []), None);
    }
}
