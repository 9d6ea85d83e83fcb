//! The order in which a tree is filled at a start.

/// Of entries in the order of their keys, every second one first, then the others. An
/// [`imbl::OrdMap`] splits a full leaf of sixteen entries in the middle: filled in order, its
/// leaves stay half full. Filled in this order they are full, and a map that is kept for long takes
/// half the memory.
pub fn fill_order<T>(sorted: Vec<T>) -> impl Iterator<Item = T> {
    let (first, then): (Vec<_>, Vec<_>) =
        sorted.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
    first.into_iter().chain(then).map(|(_, it)| it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_in_the_order() {
        assert_eq!(fill_order(vec![1, 2, 3, 4, 5]).collect::<Vec<_>>(), [1, 3, 5, 2, 4]);
        assert_eq!(fill_order(Vec::<u8>::new()).count(), 0);
    }
}
