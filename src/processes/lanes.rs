//! Inputs on their way to their instances: those of one instance one after another, those of several at the
//! same time.

use crate::{event_log::subject::Id, process::Arrived};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Inputs that are not settled yet.
#[derive(Default)]
pub(super) struct Lanes {
    /// Inputs that wait for the one before them, by instance. An instance is here as long as one is under way.
    waiting: HashMap<Id, VecDeque<(u64, Arrived)>>,
    /// The number of inputs of each position that are not settled.
    unsettled: BTreeMap<u64, usize>,
    /// The position up to which the log was read.
    read: u64,
    count: usize,
}

impl Lanes {
    /// Begins after this position.
    pub fn after(position: u64) -> Self {
        Self {
            read: position,
            ..Self::default()
        }
    }

    /// Takes an input. Returns it when it can be given to its instance now.
    pub fn put(&mut self, position: u64, instance: Id, input: Arrived) -> Option<(Id, Arrived)> {
        *self.unsettled.entry(position).or_default() += 1;
        self.count += 1;
        if let Some(waiting) = self.waiting.get_mut(&instance) {
            waiting.push_back((position, input));
            return None;
        }
        self.waiting.insert(instance.clone(), VecDeque::new());
        Some((instance, input))
    }

    /// Notes that all up to this position has been put.
    pub fn read_up_to(&mut self, position: u64) {
        self.read = self.read.max(position);
    }

    /// The position up to which all has been put.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Notes that an input of this position is settled. Returns the next of the same instance.
    pub fn settle(&mut self, position: u64, instance: &Id) -> Option<(u64, Arrived)> {
        self.count -= 1;
        if let Some(unsettled) = self.unsettled.get_mut(&position) {
            *unsettled -= 1;
            if *unsettled == 0 {
                self.unsettled.remove(&position);
            }
        }
        let next = self.waiting.get_mut(instance)?.pop_front();
        if next.is_none() {
            self.waiting.remove(instance);
        }
        next
    }

    /// The position up to which all is settled.
    pub fn settled(&self) -> u64 {
        match self.unsettled.first_key_value() {
            Some((first, _)) => first - 1,
            None => self.read,
        }
    }

    /// Returns how many inputs are not settled.
    pub fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: &str) -> Id {
        Id::new(id).unwrap()
    }

    fn input(name: &str) -> Arrived {
        let name = name.to_owned();
        Arrived::Due { name, armed: 1 }
    }

    fn name(input: &Arrived) -> &str {
        match input {
            Arrived::Due { name, .. } => name,
            _ => "",
        }
    }

    #[test]
    fn the_inputs_of_an_instance_go_one_after_another_and_the_settled_position_waits_for_all() {
        let mut lanes = Lanes::after(4);
        assert_eq!(lanes.settled(), 4);
        assert!(lanes.put(5, id("a"), input("1")).is_some());
        assert!(lanes.put(7, id("a"), input("2")).is_none());
        assert!(lanes.put(7, id("b"), input("3")).is_some());
        lanes.read_up_to(9);
        assert_eq!((lanes.settled(), lanes.len()), (4, 3));
        assert!(lanes.settle(7, &id("b")).is_none());
        assert_eq!(lanes.settled(), 4);
        let (position, next) = lanes.settle(5, &id("a")).unwrap();
        assert_eq!((position, name(&next)), (7, "2"));
        assert_eq!(lanes.settled(), 6);
        assert!(lanes.settle(7, &id("a")).is_none());
        assert_eq!((lanes.settled(), lanes.len()), (9, 0));
        assert!(lanes.put(10, id("a"), input("4")).is_some());
    }
}
