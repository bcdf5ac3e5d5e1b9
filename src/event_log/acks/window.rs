//! The acknowledgements that are waited for, and their numbers.

use super::Answer;
use crate::event_log::ack::AppendError;
use std::collections::VecDeque;
use tokio::{sync::oneshot, time::Instant};

/// One that waits.
#[derive(Debug)]
struct Waiting {
    until: Instant,
    sender: oneshot::Sender<Answer>,
}

impl Waiting {
    fn tell(self, answer: Answer) {
        // Who does not wait any more does not matter.
        let _ = self.sender.send(answer);
    }
}

/// Those that wait, in the order in which they began; the first of them is always there.
///
/// A number is the place in that order, counted from the first ever, so no number is given out twice:
/// an answer that comes late, or twice, finds nobody. A server that was cut off may answer long after
/// another one has.
#[derive(Debug)]
pub(super) struct Window {
    /// True if anybody receives.
    pub open: bool,
    /// The number that have left at the front: the number of the first that waits.
    gone: u64,
    waiting: VecDeque<Option<Waiting>>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            open: true,
            gone: 0,
            waiting: VecDeque::new(),
        }
    }
}

impl Window {
    /// Adds one and returns its number; `None` when nobody receives any more.
    pub(super) fn add(&mut self, until: Instant, sender: oneshot::Sender<Answer>) -> Option<u64> {
        if !self.open {
            return None;
        }
        let number = self.next();
        self.waiting.push_back(Some(Waiting { until, sender }));
        Some(number)
    }

    /// Tells the one that waits under this number, if there is one.
    pub(super) fn answer(&mut self, number: u64, answer: Answer) {
        if let Some(waiting) = self.take(number) {
            waiting.tell(answer);
        }
    }

    /// Takes back one that has not been sent.
    pub(super) fn take_back(&mut self, number: u64) {
        self.take(number);
    }

    fn take(&mut self, number: u64) -> Option<Waiting> {
        let index = number.checked_sub(self.gone)? as usize;
        let taken = self.waiting.get_mut(index)?.take();
        self.move_on();
        taken
    }

    fn move_on(&mut self) {
        while let Some(None) = self.waiting.front() {
            self.waiting.pop_front();
            self.gone += 1;
        }
    }

    /// The number that the next one gets.
    pub(super) fn next(&self) -> u64 {
        self.gone + self.waiting.len() as u64
    }

    /// Ends the wait of all: each is in doubt for this reason.
    pub(super) fn end_all(&mut self, reason: &str) {
        self.end_before(self.next(), reason);
    }

    /// Ends the wait of those with a lower number: each is in doubt for this reason.
    pub(super) fn end_before(&mut self, number: u64, reason: &str) {
        let count = number.saturating_sub(self.gone) as usize;
        let count = count.min(self.waiting.len());
        for waiting in self.waiting.drain(..count).flatten() {
            waiting.tell(Err(AppendError::InDoubt(reason.to_owned())));
        }
        self.gone += count as u64;
        self.move_on();
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

    /// The word for one that waits.
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
    fn those_before_a_number_are_in_doubt_and_the_others_wait_on() {
        let mut window = Window::default();
        let until = Instant::now() + Duration::from_secs(60);
        let (first, mut lost) = add(&mut window, until);
        let (second, mut answered) = add(&mut window, until);
        window.answer(second, stored(2));
        let (third, mut waits) = add(&mut window, until);
        window.end_before(third, "gone");
        assert!(matches!(
            lost.try_recv().unwrap(),
            Err(AppendError::InDoubt(_))
        ));
        assert_eq!(position(&mut answered), 2);
        window.answer(first, stored(1));
        window.answer(third, stored(3));
        assert_eq!(position(&mut waits), 3);
        window.end_before(first, "long gone");
        assert_eq!(window.next(), third + 1);
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
    fn no_number_is_given_out_twice_whatever_became_of_it() {
        let mut window = Window::default();
        let now = Instant::now();
        for number in 0..4 {
            let (given, _told) = add(&mut window, now);
            assert_eq!(given, number);
            match number {
                0 => window.answer(given, stored(5)),
                1 => window.answer(given, Err(AppendError::LostRace)),
                2 => window.take_back(given),
                _ => assert_eq!(window.end_late(now), None),
            }
        }
        assert_eq!(add(&mut window, now).0, 4);
    }

    #[test]
    fn an_answer_that_comes_late_or_twice_is_nobodys() {
        let mut window = Window::default();
        let now = Instant::now();
        let (first, mut told) = add(&mut window, now);
        window.answer(first, stored(5));
        assert_eq!(position(&mut told), 5);
        let (second, mut told) = add(&mut window, now);
        window.answer(first, Err(AppendError::LostRace));
        window.answer(first, stored(5));
        assert!(told.try_recv().is_err());
        window.answer(second, stored(6));
        assert_eq!(position(&mut told), 6);
    }

    #[test]
    fn when_all_are_ended_no_number_of_theirs_is_given_out_again() {
        let mut window = Window::default();
        let now = Instant::now();
        let (first, mut told) = add(&mut window, now);
        let (second, _) = add(&mut window, now);
        window.answer(second, stored(1));
        window.end_all("a reason");
        assert!(told.try_recv().unwrap().is_err());
        window.answer(first, stored(2));
        assert_eq!(add(&mut window, now).0, 2);
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
