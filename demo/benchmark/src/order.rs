//! Who goes first.

/// The places of `length` contestants in the order of a round: each round begins with the next one, and when all
/// have been first the direction changes, so that none always follows the same one.
pub fn order(length: usize, round: u32) -> Vec<usize> {
    let round = round as usize;
    let mut order: Vec<usize> = (0..length).map(|place| (place + round) % length).collect();
    if round.checked_div(length).unwrap_or_default() % 2 == 1 {
        order.reverse();
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_goes_first_in_turn() {
        let firsts: Vec<usize> = (0..4).map(|round| order(4, round)[0]).collect();
        assert_eq!(firsts, [0, 1, 2, 3]);
        assert_eq!((order(2, 0), order(2, 1), order(2, 2)), (vec![0, 1], vec![1, 0], vec![1, 0]));
        for round in 0..6 {
            let mut all = order(3, round);
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2]);
        }
        assert!(order(0, 3).is_empty());
    }
}
