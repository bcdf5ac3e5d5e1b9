//! A made-up world: shoppers, a branch and time do what they like, commands and their answers are late, lost
//! and sent again, and inputs come more than once. In the end the stock adds up and every order has ended as
//! its own log says.

use super::*;
use headwater_core::{
    aggregate::{Decision, Rejection as _},
    caller::Caller,
    outcome::{Outcome, OutcomeEvent},
    problem::Problem,
    process::{Answer, Arrived, Instance, InstanceCommand, Record, Sent},
};
use jiff::Timestamp;
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

const SKUS: [&str; 2] = ["apple", "tofu"];
const PRICE: i64 = 1_000;
/// The most deliveries until nothing is on its way any more: far more than there can be.
const PATIENCE: usize = 10_000;

/// One aggregate, with the outcomes of the commands that it has taken.
struct Kept<A: Aggregate> {
    state: A,
    events: Vec<A::Event>,
    taken: BTreeMap<String, Outcome>,
}

impl<A: Aggregate> Default for Kept<A> {
    fn default() -> Self {
        Self {
            state: A::default(),
            events: Vec::new(),
            taken: BTreeMap::new(),
        }
    }
}

impl<A: Aggregate> Kept<A>
where
    A::Event: Clone,
{
    fn version(&self) -> u64 {
        self.events.len() as u64
    }

    /// Decides a command once. A refusal is not remembered: who asks again is decided again.
    fn give(
        &mut self,
        id: &str,
        command: A::Command,
        command_id: &str,
        expected: Option<u64>,
        (now, position): (Timestamp, &mut u64),
    ) -> Result<(Outcome, Vec<A::Event>), Problem> {
        if let Some(outcome) = self.taken.get(command_id) {
            return Ok((outcome.clone(), Vec::new()));
        }
        if expected.is_some_and(|expected| expected != self.version()) {
            return Err(Problem::version_mismatch(self.version()));
        }
        let at = Context {
            id: id.into(),
            version: self.version(),
            command_id: command_id.into(),
            now,
            caller: Caller::default(),
        };
        let decided = self.state.decide(command, &at);
        let Decision { events, .. } = decided
            .map_err(|rejection| Problem::refused(rejection.code(), rejection.to_string()))?;
        for event in &events {
            self.state.evolve(event);
            self.events.push(event.clone());
        }
        *position += u64::from(!events.is_empty());
        let outcome = Outcome {
            aggregate: A::NAME.into(),
            id: id.into(),
            version: self.version(),
            position: *position,
            events: events.iter().map(|_| outcome_event()).collect(),
            replayed: false,
        };
        if !events.is_empty() {
            self.taken.insert(command_id.to_owned(), outcome.clone());
        }
        Ok((outcome, events))
    }
}

fn outcome_event() -> OutcomeEvent {
    OutcomeEvent {
        r#type: "a.b.v1".into(),
        version: 1,
    }
}

/// Something on its way.
#[derive(Clone)]
enum Mail {
    Command(Sent),
    Input(Arrived),
    /// An alarm, which does not come before its time.
    Alarm(Arrived, Timestamp),
}

/// The fulfilment of one order, and what is on its way to and from it.
#[derive(Default)]
struct One {
    order: Kept<Order>,
    instance: Kept<Instance<Fulfilment>>,
    /// The order's events, which come one after another.
    events: VecDeque<Recorded>,
    mail: Vec<Mail>,
    inputs: u64,
}

struct World {
    now: Timestamp,
    position: u64,
    products: BTreeMap<&'static str, Kept<Product>>,
    stocks: BTreeMap<&'static str, Kept<Stock>>,
    orders: BTreeMap<String, One>,
    asked: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            now: "2027-01-01T00:00:00Z".parse().unwrap(),
            position: 0,
            products: BTreeMap::new(),
            stocks: BTreeMap::new(),
            orders: BTreeMap::new(),
            asked: 0,
        };
        for sku in SKUS {
            let register = serde_json::json!({
                "register": { "name": sku, "price": PRICE, "category": "food" }
            });
            let register = serde_json::from_value(register).unwrap();
            let mut product = Kept::<Product>::default();
            let at = (world.now, &mut world.position);
            product.give(sku, register, "register", None, at).unwrap();
            world.products.insert(sku, product);
            world.stocks.insert(sku, Kept::default());
            world.receive(sku, 3);
        }
        world
    }

    fn receive(&mut self, sku: &'static str, quantity: i64) {
        self.asked += 1;
        let key = format!("receive-{}", self.asked);
        let receive = stock::Command::Receive { quantity };
        let stock = self.stocks.get_mut(sku).unwrap();
        let at = (self.now, &mut self.position);
        let id = stock_id("gangnam", sku);
        stock.give(&id, receive, &key, None, at).unwrap();
    }

    /// Gives a command of a person to an order, refused or not.
    fn order(&mut self, id: &str, command: order::Command) {
        self.asked += 1;
        let key = format!("person-{}", self.asked);
        let _ = self.order_as(id, command, &key, None);
    }

    fn order_as(
        &mut self,
        id: &str,
        command: order::Command,
        key: &str,
        expected: Option<u64>,
    ) -> Result<Outcome, Problem> {
        let one = self.orders.entry(id.to_owned()).or_default();
        let at = (self.now, &mut self.position);
        let (outcome, events) = one.order.give(id, command, key, expected, at)?;
        let first = outcome.version - events.len() as u64;
        for (version, event) in (first + 1..).zip(events) {
            let stored = serde_json::to_value(&event).unwrap();
            one.events.push_back(Recorded {
                aggregate: Order::NAME.to_owned(),
                id: id.to_owned(),
                event_type: stored["type"].as_str().unwrap().to_owned(),
                version,
                position: self.position,
                time: self.now,
                command_id: key.to_owned(),
                correlation_id: key.to_owned(),
                causation_id: key.to_owned(),
                caller_id: None,
                data: Arc::from(serde_json::value::to_raw_value(&stored["data"]).unwrap()),
            });
        }
        Ok(outcome)
    }

    fn input(&mut self, id: &str, input: Arrived) {
        let one = self.orders.get_mut(id).unwrap();
        one.inputs += 1;
        let command = InstanceCommand::Handle {
            input,
            settings: serde_json::to_value(Settings::default()).unwrap(),
        };
        let key = format!("input-{}", one.inputs);
        let at = (self.now, &mut self.position);
        let given = one.instance.give(id, command, &key, None, at);
        let (_, records) = given.unwrap_or_else(|problem| panic!("{id}: {problem}"));
        for record in records {
            match record {
                Record::Stepped(step) => {
                    let open = one.instance.state.open().iter();
                    let sent = open.filter(|sent| sent.step == step.step);
                    one.mail.extend(sent.cloned().map(Mail::Command));
                    one.mail.extend(step.set.into_iter().map(|deadline| {
                        let (name, armed) = (deadline.name, deadline.armed);
                        Mail::Alarm(Arrived::Due { name, armed }, deadline.at)
                    }));
                }
                Record::Parked { reason, .. } => panic!("{id} is parked: {reason}"),
                _ => {}
            }
        }
    }

    /// Carries a command out, and returns its answer.
    fn carry_out(&mut self, order: &str, sent: &Sent) -> Answer {
        let key = sent.command_id(Fulfilment::NAME, order);
        let now = self.now;
        let carried = if let Some(command) = sent.command::<Order>() {
            self.order_as(&sent.id, command, &key, sent.expected)
        } else if let Some(command) = sent.command::<Product>() {
            let product = self.products.get_mut(&*sent.id).unwrap();
            let at = (now, &mut self.position);
            let given = product.give(&sent.id, command, &key, sent.expected, at);
            given.map(|(outcome, _)| outcome)
        } else {
            let command = sent.command::<Stock>().expect("no other is sent to");
            let (_, sku) = stock::split_id(&sent.id).unwrap();
            let stock = self.stocks.get_mut(sku).unwrap();
            let at = (now, &mut self.position);
            let given = stock.give(&sent.id, command, &key, sent.expected, at);
            given.map(|(outcome, _)| outcome)
        };
        match carried {
            Ok(outcome) => Answer::Accepted(outcome),
            Err(problem) => Answer::Refused(problem),
        }
    }

    /// Delivers one thing that is on its way to an order or from it. `again`: it is on its way still.
    fn deliver(&mut self, id: &str, which: usize, again: bool) {
        let one = self.orders.get_mut(id).unwrap();
        let events = usize::from(!one.events.is_empty());
        let ways = one.mail.len() + events;
        if ways == 0 {
            return;
        }
        let which = which % ways;
        if which == one.mail.len() {
            let event = one.events.pop_front().unwrap();
            if again {
                // Whoever follows next begins with it once more.
                one.events.push_front(event.clone());
            }
            return self.input(id, Arrived::Event(event));
        }
        match one.mail[which].clone() {
            Mail::Alarm(_, at) if at > self.now => {}
            Mail::Command(sent) => {
                let answer = self.carry_out(id, &sent);
                let one = self.orders.get_mut(id).unwrap();
                // Lost: it is sent again with the same id.
                if !again {
                    let (step, number) = (sent.step, sent.number);
                    one.mail[which] = Mail::Input(Arrived::Answered {
                        step,
                        number,
                        answer,
                    });
                }
            }
            Mail::Input(input) | Mail::Alarm(input, _) => {
                if !again {
                    one.mail.swap_remove(which);
                }
                self.input(id, input);
            }
        }
    }

    fn pass(&mut self, minutes: i64) {
        self.now = self
            .now
            .checked_add(SignedDuration::from_mins(minutes))
            .unwrap();
    }

    /// Delivers all that is on its way, until nothing is.
    fn settle(&mut self) {
        let ids: Vec<_> = self.orders.keys().cloned().collect();
        for _ in 0..PATIENCE {
            self.pass(1);
            let mut rests = true;
            for id in &ids {
                let one = &self.orders[id];
                if one.mail.is_empty() && one.events.is_empty() {
                    continue;
                }
                rests = false;
                // The last one first: what was sent early comes late.
                for which in (0..=one.mail.len()).rev() {
                    self.deliver(id, which, false);
                }
            }
            if rests {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Asserts that nothing of any stock is lost or made up, and that each order has ended as its log says.
    fn verify(&self) {
        for (sku, stock) in &self.stocks {
            let (mut received, mut available, mut gone) = (0, 0, 0);
            let mut set_aside: BTreeMap<&str, i64> = BTreeMap::new();
            for event in &stock.events {
                match event {
                    stock::Event::Received { quantity, .. } => {
                        received += quantity;
                        available += quantity;
                    }
                    stock::Event::Reserved {
                        order, quantity, ..
                    } => {
                        assert_eq!(set_aside.insert(order, *quantity), None, "{sku} {order}");
                        available -= quantity;
                    }
                    stock::Event::Released {
                        order, quantity, ..
                    } => {
                        assert_eq!(set_aside.remove(&**order), Some(*quantity), "{sku} {order}");
                        available += quantity;
                    }
                    stock::Event::Shipped {
                        order, quantity, ..
                    } => {
                        assert_eq!(set_aside.remove(&**order), Some(*quantity), "{sku} {order}");
                        gone += quantity;
                    }
                    stock::Event::Adjusted { .. } => unreachable!("nobody counts"),
                }
            }
            assert!(available >= 0, "{sku}");
            let waits: i64 = set_aside.values().sum();
            assert_eq!(received, available + waits + gone, "{sku}");
            for (order, _) in set_aside {
                let last = self.orders[order].order.events.last();
                assert!(
                    matches!(last, Some(order::Event::Paid { .. })),
                    "{order}: {last:?}"
                );
            }
        }
        for (id, one) in &self.orders {
            let Some(last) = one.order.events.last() else {
                continue;
            };
            let status = one.instance.state.status();
            match last {
                order::Event::Paid { .. } => {}
                order::Event::Shipped {}
                | order::Event::Delivered {}
                | order::Event::Rejected { .. }
                | order::Event::Cancelled { .. } => {
                    assert_eq!(*status, headwater_core::process::Status::Ended, "{id}");
                }
                other => panic!("{id} has stopped at {other:?}"),
            }
            assert!(one.instance.state.open().is_empty(), "{id} waits for ever");
        }
    }
}

#[derive(Debug, Clone)]
enum Turn {
    Place {
        order: u8,
        lines: Vec<(usize, i64)>,
        price: i64,
    },
    Pay(u8),
    Ship(u8),
    Cancel(u8),
    Confirm(u8),
    Reject(u8),
    Receive(usize),
    Deliver {
        order: u8,
        which: usize,
        again: bool,
    },
    Pass(i64),
}

fn any_turn() -> impl Strategy<Value = Turn> {
    let order = || 0..4_u8;
    let lines = prop_oneof![
        (0..2_usize, 1..4_i64).prop_map(|line| vec![line]),
        (1..4_i64, 1..4_i64).prop_map(|(apples, tofu)| vec![(0, apples), (1, tofu)]),
    ];
    let price = prop_oneof![9 => Just(PRICE), 1 => Just(PRICE + 1)];
    prop_oneof![
        3 => (order(), lines, price)
            .prop_map(|(order, lines, price)| Turn::Place { order, lines, price }),
        2 => order().prop_map(Turn::Pay),
        2 => order().prop_map(Turn::Ship),
        1 => order().prop_map(Turn::Cancel),
        1 => order().prop_map(Turn::Confirm),
        1 => order().prop_map(Turn::Reject),
        1 => (0..2_usize).prop_map(Turn::Receive),
        20 => (order(), 0..8_usize, prop::bool::weighted(0.2))
            .prop_map(|(order, which, again)| Turn::Deliver { order, which, again }),
        1 => (1..20_i64).prop_map(Turn::Pass),
    ]
}

fn take(world: &mut World, turn: Turn) {
    let id = |number: u8| format!("o-{number}");
    let reason = || "as they like".to_owned();
    match turn {
        Turn::Place {
            order,
            lines,
            price,
        } => {
            let lines = lines.into_iter().map(|(sku, quantity)| order::NewLine {
                sku: SKUS[sku].into(),
                quantity,
                unit_price: price,
            });
            let place = order::Command::Place {
                member: "m-1".into(),
                branch: "gangnam".into(),
                lines: lines.collect(),
            };
            world.order(&id(order), place);
        }
        Turn::Pay(order) => {
            let amount = world.orders.get(&id(order)).and_then(|one| {
                let placed = one.order.events.first()?;
                match placed {
                    order::Event::Placed { total, .. } => Some(*total),
                    _ => None,
                }
            });
            let payment = "pay-1".to_owned();
            let amount = amount.unwrap_or(1);
            world.order(&id(order), order::Command::Pay { payment, amount });
        }
        Turn::Ship(order) => world.order(&id(order), order::Command::Ship {}),
        Turn::Cancel(order) => {
            world.order(&id(order), order::Command::Cancel { reason: reason() });
        }
        Turn::Confirm(order) => world.order(&id(order), order::Command::Confirm {}),
        Turn::Reject(order) => {
            world.order(&id(order), order::Command::Reject { reason: reason() });
        }
        Turn::Receive(sku) => world.receive(SKUS[sku], 2),
        Turn::Deliver {
            order,
            which,
            again,
        } => {
            if world.orders.contains_key(&id(order)) {
                world.deliver(&id(order), which, again);
            }
        }
        Turn::Pass(minutes) => world.pass(minutes),
    }
}

proptest! {
    #[test]
    fn whatever_people_and_the_network_do_the_stock_adds_up_and_every_order_ends(
        turns in prop::collection::vec(any_turn(), 0..120),
    ) {
        let mut world = World::new();
        for turn in turns {
            take(&mut world, turn);
        }
        world.settle();
        world.verify();
    }
}
