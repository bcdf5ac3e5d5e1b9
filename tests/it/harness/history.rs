//! Recorded histories of what clients do to one thing, for the linearizability checker.

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

/// What clients do to one stock.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    Receive(i64),
    /// For an order that nobody else reserves for.
    Reserve(i64),
    /// Asks for the version.
    Look,
}

/// What they are told.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// Accepted; the version after it.
    Accepted(u64),
    /// The version that there is.
    Version(u64),
    NotFound,
    OutOfStock,
}

/// A stock as it should be, one operation after another.
#[derive(Debug, Clone, Default)]
pub struct Stock {
    version: u64,
    available: i64,
}

impl SequentialSpec for Stock {
    type Op = Op;
    type Ret = Told;

    fn invoke(&mut self, op: &Op) -> Told {
        let change = match *op {
            Op::Look => return Told::Version(self.version),
            Op::Reserve(_) if self.version == 0 => return Told::NotFound,
            Op::Reserve(quantity) if quantity > self.available => return Told::OutOfStock,
            Op::Reserve(quantity) => -quantity,
            Op::Receive(quantity) => quantity,
        };
        self.available += change;
        self.version += 1;
        Told::Accepted(self.version)
    }
}

/// What was begun and what was told, in the order in which it happened.
#[derive(Debug, Clone, Default)]
pub struct History<S>(Arc<Mutex<Steps<S>>>)
where
    S: SequentialSpec,
    S::Op: Debug,
    S::Ret: Debug;

/// Each with the client.
type Steps<S> = Vec<(u64, Step<S>)>;

#[derive(Debug)]
enum Step<S>
where
    S: SequentialSpec,
    S::Op: Debug,
    S::Ret: Debug,
{
    Began(S::Op),
    Told(S::Ret),
}

impl<S> History<S>
where
    S: SequentialSpec + Clone + Default,
    S::Op: Clone + Debug,
    S::Ret: Clone + Debug + PartialEq,
{
    /// To be called before anything is sent. A client has one operation at a time; one that was
    /// never told what became of its operation does no more.
    pub fn began(&self, client: u64, op: S::Op) {
        self.0.lock().unwrap().push((client, Step::Began(op)));
    }

    /// To be called after the answer has come.
    pub fn told(&self, client: u64, told: S::Ret) {
        self.0.lock().unwrap().push((client, Step::Told(told)));
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Whether the operations could have happened one after another, each at a moment between its
    /// beginning and its answer.
    pub fn is_linearizable(&self) -> bool {
        let mut tester = LinearizabilityTester::new(S::default());
        for (client, step) in self.0.lock().unwrap().iter() {
            let valid = match step {
                Step::Began(op) => tester.on_invoke(*client, op.clone()).map(drop),
                Step::Told(told) => tester.on_return(*client, told.clone()).map(drop),
            };
            valid.expect("a client has one operation at a time");
        }
        tester.is_consistent()
    }
}
