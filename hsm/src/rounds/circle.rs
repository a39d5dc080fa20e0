//! Those who take turns, each found by its number however many they are.

use std::collections::{HashMap, VecDeque};

/// So many are looked through faster than found by a hash: the usual case.
const FEW: usize = 16;

/// Emptied places that are kept, so that who comes and goes takes no memory anew.
const SPARE: usize = 64;

#[derive(Debug)]
struct Place<V> {
    of: u32,
    value: V,
}

/// Numbers and what is theirs, in the order of their turns.
#[derive(Debug)]
pub struct Circle<V> {
    places: Vec<Place<V>>,
    /// Nobody's.
    free: Vec<usize>,
    /// The first one's turn is next.
    order: VecDeque<usize>,
    /// The place of each number, once there are more than a few; else empty.
    index: HashMap<u32, usize>,
}

impl<V> Default for Circle<V> {
    fn default() -> Self {
        Circle { places: Vec::new(), free: Vec::new(), order: VecDeque::new(), index: HashMap::new() }
    }
}

impl<V: Default> Circle<V> {
    /// With a place that is ready.
    pub fn with_spare(value: V) -> Self {
        let mut order = VecDeque::new();
        order.reserve(4);
        Circle { places: vec![Place { of: 0, value }], free: vec![0], order, index: HashMap::new() }
    }

    /// Whether nobody takes turns.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// What is this number's; a new one's turn comes last.
    pub fn of(&mut self, of: u32) -> Option<&mut V> {
        let place = match self.find(of) {
            Some(place) => place,
            None => self.enter(of),
        };
        self.places.get_mut(place).map(|place| &mut place.value)
    }

    fn find(&self, of: u32) -> Option<usize> {
        if !self.index.is_empty() {
            return self.index.get(&of).copied();
        }
        let is_its = |place: &usize| self.places.get(*place).is_some_and(|place| place.of == of);
        self.order.iter().copied().find(is_its)
    }

    fn enter(&mut self, of: u32) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { of, value: V::default() });
            self.places.len() - 1
        });
        if let Some(place) = self.places.get_mut(place) {
            place.of = of;
        }
        self.order.push_back(place);
        if !self.index.is_empty() {
            self.index.insert(of, place);
        } else if self.order.len() > FEW {
            let number = |place: &usize| self.places.get(*place).map(|there| (there.of, *place));
            self.index = self.order.iter().filter_map(number).collect();
        }
        place
    }

    /// Whose turn is next.
    pub fn first(&self) -> Option<&V> {
        self.places.get(*self.order.front()?).map(|place| &place.value)
    }

    /// Whose turn is next, and the number.
    pub fn first_mut(&mut self) -> Option<(u32, &mut V)> {
        let place = self.places.get_mut(*self.order.front()?)?;
        Some((place.of, &mut place.value))
    }

    /// The first one's turn is over: it comes last.
    pub fn pass(&mut self) {
        if let Some(place) = self.order.pop_front() {
            self.order.push_back(place);
        }
    }

    /// The first one leaves. What it had is emptied, and another one's later.
    pub fn leave(&mut self) {
        if let Some(place) = self.order.pop_front() {
            self.vacate(place);
            self.shrink();
        }
    }

    fn vacate(&mut self, place: usize) {
        let is_spare = self.free.len() < SPARE;
        if let Some(place) = self.places.get_mut(place) {
            self.index.remove(&place.of);
            if !is_spare {
                place.value = V::default();
            }
        }
        self.free.push(place);
    }

    fn shrink(&mut self) {
        if self.order.is_empty() && self.places.len() > SPARE {
            // A crowd has gone: so does what it took.
            self.places.truncate(SPARE);
            self.places.shrink_to(SPARE);
            self.free = (0..self.places.len()).collect();
            (self.index, self.order) = (HashMap::new(), VecDeque::new());
        }
    }

    /// Everybody's, in the order of their turns; those whom `stays` says no to leave.
    pub fn retain(&mut self, mut stays: impl FnMut(u32, &mut V) -> bool) {
        let mut left = Vec::new();
        let places = &mut self.places;
        self.order.retain(|place| {
            let stays = places.get_mut(*place).is_some_and(|there| stays(there.of, &mut there.value));
            if !stays {
                left.push(*place);
            }
            stays
        });
        for place in left {
            self.vacate(place);
        }
        self.shrink();
    }

    /// What is everybody's.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.order.iter().filter_map(|place| self.places.get(*place)).map(|place| &place.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(circle: &mut Circle<u32>) -> Vec<(u32, u32)> {
        let mut all = Vec::new();
        while let Some((of, value)) = circle.first_mut() {
            all.push((of, std::mem::take(value)));
            circle.leave();
        }
        all
    }

    /// Few are looked through, many are found by their numbers: it makes no difference.
    #[test]
    fn each_has_its_own_however_many_they_are() {
        for count in [1, FEW as u32, FEW as u32 + 1, 1_000] {
            let mut circle = Circle::default();
            for round in 1..=3 {
                for of in 0..count {
                    *circle.of(of * 7).unwrap() += round;
                }
            }
            // Some leave, and one of them comes again.
            circle.retain(|of, value| {
                let stays = of == 0 || of % 2 == 1;
                *value = if stays { *value } else { 0 };
                stays
            });
            circle.pass();
            *circle.of(14).unwrap() += 1;
            let stay: Vec<_> = (0..count).map(|of| of * 7).filter(|of| of % 2 == 1).collect();
            let mut expected: Vec<_> = stay.into_iter().map(|of| (of, 6)).collect();
            expected.extend([(0, 6), (14, 1)]);
            assert_eq!(turns(&mut circle), expected, "{count}");
            assert!(circle.is_empty() && circle.index.is_empty() && circle.places.len() <= SPARE.max(FEW));
            *circle.of(3).unwrap() += 1;
            assert_eq!(turns(&mut circle), [(3, 1)]);
        }
    }

    #[test]
    fn a_crowd_that_leaves_at_once_leaves_nothing_behind() {
        let mut circle = Circle::default();
        for _ in 0..3 {
            for of in 0..70 {
                *circle.of(of).unwrap() = 1;
            }
            circle.retain(|_, value| std::mem::take(value) == 0);
            assert!(circle.is_empty());
            for of in 0..68 {
                *circle.of(of).unwrap() += of;
            }
            assert_eq!(turns(&mut circle), (0..68).map(|of| (of, of)).collect::<Vec<_>>());
        }
    }
}
