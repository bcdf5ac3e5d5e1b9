//! The acknowledgements that are waited for, and their numbers.

use super::Answer;
use crate::event_log::append::AppendError;
use std::collections::VecDeque;
use tokio::{sync::oneshot, time::Instant};

/// One that waits.
#[derive(Debug)]
struct Waiting {
    until: Instant,
    sender: oneshot::Sender<Answer>,
    /// The slot of its number.
    slot: usize,
}

impl Waiting {
    fn tell(self, answer: Answer) {
        // Who does not wait any more does not matter.
        let _ = self.sender.send(answer);
    }
}

/// A number, and what is known of it.
#[derive(Debug)]
struct Slot {
    /// The place of the slot, and above its 32 bits how many numbers were given up in it.
    number: u64,
    /// The position of the last message that was acknowledged under this number.
    position: u64,
    /// Where in the window the one that waits is, counted from the first ever.
    at: u64,
}

/// Those that wait, in the order in which they began; the first of them is always there.
#[derive(Debug)]
pub(super) struct Window {
    /// Whether anybody receives.
    pub open: bool,
    /// How many have left at the front.
    gone: u64,
    waiting: VecDeque<Option<Waiting>>,
    slots: Vec<Slot>,
    /// Where nobody waits; the one used last is last.
    free: Vec<usize>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            open: true,
            gone: 0,
            waiting: VecDeque::new(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl Window {
    /// Adds one and returns its number; `None` when nobody receives any more.
    pub(super) fn add(&mut self, until: Instant, sender: oneshot::Sender<Answer>) -> Option<u64> {
        if !self.open {
            return None;
        }
        let at = self.gone + self.waiting.len() as u64;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                number: self.slots.len() as u64,
                position: 0,
                at,
            });
            self.slots.len() - 1
        });
        self.slots[slot].at = at;
        self.waiting.push_back(Some(Waiting {
            until,
            sender,
            slot,
        }));
        Some(self.slots[slot].number)
    }

    /// Tells the one that waits under this number, if there is one.
    pub(super) fn answer(&mut self, number: u64, answer: Answer) {
        let Some(waiting) = self.take(number) else {
            return;
        };
        let slot = &mut self.slots[waiting.slot];
        let answer = match answer {
            Ok(published) if published.position <= slot.position => Err(AppendError::InDoubt(
                "there came the acknowledgement of another".to_owned(),
            )),
            answer => answer,
        };
        match &answer {
            Ok(published) => {
                slot.position = published.position;
                self.free.push(waiting.slot);
            }
            Err(_) => self.give_up(waiting.slot),
        }
        waiting.tell(answer);
    }

    /// Takes back one that has not been sent.
    pub(super) fn take_back(&mut self, number: u64) {
        if let Some(waiting) = self.take(number) {
            self.free.push(waiting.slot);
        }
    }

    fn take(&mut self, number: u64) -> Option<Waiting> {
        let slot = self.slots.get(number as u32 as usize)?;
        if slot.number != number {
            return None;
        }
        let index = slot.at.checked_sub(self.gone)? as usize;
        let taken = self.waiting.get_mut(index)?.take();
        self.move_on();
        taken
    }

    /// Frees a slot for another number.
    fn give_up(&mut self, slot: usize) {
        self.slots[slot].number += 1 << 32;
        self.slots[slot].position = 0;
        self.free.push(slot);
    }

    fn move_on(&mut self) {
        while let Some(None) = self.waiting.front() {
            self.waiting.pop_front();
            self.gone += 1;
        }
    }

    /// Nobody receives any more. Whoever waits is told by the sender that goes.
    pub(super) fn close(&mut self) {
        self.open = false;
        self.waiting.clear();
    }

    /// Ends what has waited too long, and tells until when the next may wait.
    pub(super) fn end_late(&mut self, now: Instant) -> Option<Instant> {
        loop {
            match self.waiting.front_mut()? {
                Some(first) if first.until > now => return Some(first.until),
                first => {
                    if let Some(late) = first.take() {
                        self.give_up(late.slot);
                        late.tell(Err(AppendError::InDoubt(
                            "there was no acknowledgement in time".to_owned(),
                        )));
                    }
                    self.move_on();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_log::ack::Published;
    use std::time::Duration;

    /// What one that waits is told.
    type Told = oneshot::Receiver<Answer>;

    fn add(window: &mut Window, until: Instant) -> (u64, Told) {
        let (sender, told) = oneshot::channel();
        (window.add(until, sender).unwrap(), told)
    }

    fn stored(position: u64) -> Answer {
        Ok(Published {
            position,
            count: None,
        })
    }

    fn position(told: &mut Told) -> u64 {
        told.try_recv().unwrap().unwrap().position
    }

    #[test]
    fn each_is_told_of_its_own_and_the_window_moves_on() {
        let mut window = Window::default();
        let now = Instant::now();
        let mut four: Vec<_> = (0..4).map(|_| add(&mut window, now)).collect();
        assert!(four.iter().map(|(number, _)| *number).eq(0..4));
        window.answer(1, stored(10));
        assert_eq!((window.gone, window.waiting.len()), (0, 4));
        window.answer(0, stored(11));
        assert_eq!((window.gone, window.waiting.len()), (2, 2));
        window.answer(0, stored(11));
        window.answer(7, stored(12));
        assert_eq!((window.gone, window.waiting.len()), (2, 2));
        window.answer(3, stored(12));
        window.answer(2, stored(13));
        assert_eq!((window.gone, window.waiting.len()), (4, 0));
        let positions = four.iter_mut().map(|(_, told)| position(told));
        assert!(positions.eq([11, 10, 13, 12]));
    }

    #[test]
    fn a_number_is_given_out_again_after_success_alone() {
        let mut window = Window::default();
        let now = Instant::now();
        let (number, _told) = add(&mut window, now);
        window.answer(number, stored(5));
        assert_eq!(add(&mut window, now).0, number);
        window.answer(number, Err(AppendError::LostRace));
        let (second, _told) = add(&mut window, now);
        assert_ne!(second, number);
        window.end_late(now);
        let (third, _told) = add(&mut window, now);
        assert!(![number, second].contains(&third));
        window.take_back(third);
        assert_eq!(add(&mut window, now).0, third);
        assert_eq!(window.slots.len(), 1);
    }

    #[test]
    fn an_acknowledgement_that_comes_twice_is_not_taken_for_another() {
        let mut window = Window::default();
        let now = Instant::now();
        let (number, mut told) = add(&mut window, now);
        window.answer(number, stored(5));
        assert_eq!(position(&mut told), 5);
        let (again, mut told) = add(&mut window, now);
        assert_eq!(again, number);
        window.answer(number, stored(5));
        let told = told.try_recv().unwrap();
        assert!(matches!(told, Err(AppendError::InDoubt(_))), "{told:?}");
        // Its own comes when nobody waits under that number any more.
        let (other, mut told) = add(&mut window, now);
        assert_ne!(other, number);
        window.answer(number, stored(6));
        assert!(told.try_recv().is_err());
        window.answer(other, stored(7));
        assert_eq!(position(&mut told), 7);
    }

    #[test]
    fn who_waits_too_long_is_told_and_the_others_go_on() {
        let mut window = Window::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let (late, mut told) = add(&mut window, now);
        let (answered, _) = add(&mut window, now);
        let (_, mut waiting) = add(&mut window, later);
        window.answer(answered, stored(1));
        assert_eq!(window.end_late(now), Some(later));
        let told = told.try_recv().unwrap();
        assert!(matches!(told, Err(AppendError::InDoubt(_))));
        assert!(waiting.try_recv().is_err());
        // What comes for it now is nobody's.
        window.answer(late, stored(2));
        assert_eq!(window.end_late(later), None);
        assert!(waiting.try_recv().unwrap().is_err());
    }
}
