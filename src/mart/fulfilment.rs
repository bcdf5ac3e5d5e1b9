//! The fulfilment of an order: from placed to handed over, or to called off with nothing left behind.
//!
//! An order that is placed is checked line by line against the range, then every line is set aside, then
//! the order is confirmed. What cannot be had has the order rejected, with a reason that names the line. An
//! order that is confirmed and not paid in time is cancelled. Whenever an order is called off, what was set
//! aside for it is released; when it is shipped, its stock is.
//!
//! People may confirm, reject and cancel by hand all the same: the events of the order lead, not what was
//! asked for. An instance has the id of its order.

use super::{
    ids::OrderId,
    order::{self, Order},
    product::{self, Product},
    stock::{self, Stock},
};
use headwater_core::{
    aggregate::{Aggregate, Context},
    process::{Input, Process, ReactError, Reaction, Sent},
    recorded::Recorded,
};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// The name of the deadline by which an order is to be paid.
pub const PAYMENT: &str = "payment";

/// The settings of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The time the payment of a confirmed order is waited for.
    pub payment_deadline: SignedDuration,
}

impl Default for Settings {
    /// 15 minutes: long enough to find a card, and short enough that nobody else goes without.
    fn default() -> Self {
        Self {
            payment_deadline: SignedDuration::from_mins(15),
        }
    }
}

/// A fact of an order's fulfilment.
///
/// These names and fields are the storage format. None is renamed, removed or given another
/// meaning: a new shape is a new version, and the old one is upcast on read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Fact {
    /// The order was placed, and its lines are checked.
    #[serde(rename = "fulfilment.began.v1")]
    Began {
        /// The branch that is to deliver it.
        branch: String,
        /// The order.
        lines: Vec<NewLine>,
    },
    /// A line is as the range has it.
    #[serde(rename = "fulfilment.checked.v1")]
    Checked {
        /// The product.
        sku: String,
    },
    /// All lines were asked for.
    #[serde(rename = "fulfilment.reserve_sent.v1")]
    ReserveSent {},
    /// A line is set aside.
    #[serde(rename = "fulfilment.reserved.v1")]
    Reserved {
        /// The product.
        sku: String,
    },
    /// A line cannot be had.
    #[serde(rename = "fulfilment.refused.v1")]
    Refused {
        /// The product.
        sku: String,
        /// The reason, naming the line.
        reason: String,
    },
    /// The order is to be confirmed.
    #[serde(rename = "fulfilment.confirm_sent.v1")]
    ConfirmSent {},
    /// The order is to be rejected.
    #[serde(rename = "fulfilment.reject_sent.v1")]
    RejectSent {},
    /// The order was confirmed.
    #[serde(rename = "fulfilment.confirmed.v1")]
    Confirmed {
        /// The order's version then.
        version: u64,
    },
    /// The order was paid.
    #[serde(rename = "fulfilment.paid.v1")]
    Paid {},
    /// The order was shipped.
    #[serde(rename = "fulfilment.shipped.v1")]
    Shipped {},
    /// The order was rejected or cancelled.
    #[serde(rename = "fulfilment.called_off.v1")]
    CalledOff {},
    /// The quantities set aside are to be released.
    #[serde(rename = "fulfilment.release_sent.v1")]
    ReleaseSent {
        /// The products.
        skus: Vec<String>,
    },
    /// The quantities set aside are to be handed over.
    #[serde(rename = "fulfilment.ship_sent.v1")]
    ShipSent {
        /// The products.
        skus: Vec<String>,
    },
    /// Nothing is set aside for a line any more.
    #[serde(rename = "fulfilment.settled.v1")]
    Settled {
        /// The product.
        sku: String,
    },
}

/// A line as it was ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewLine {
    /// The product.
    pub sku: String,
    /// The quantity.
    pub quantity: i64,
    /// The price of one in whole won, as the shopper saw it.
    pub unit_price: i64,
}

/// The status of the fulfilment of an order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fulfilment {
    branch: String,
    lines: Vec<Line>,
    order: OrderStatus,
    /// The order's version when it was confirmed.
    confirmed_at: u64,
    /// The first reason against it.
    reason: Option<String>,
    /// True if the order was asked to be confirmed or rejected.
    answered: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    sku: String,
    quantity: i64,
    unit_price: i64,
    status: LineStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LineStatus {
    Checking,
    Checked,
    Reserving,
    Reserved,
    Refused,
    Releasing,
    Shipping,
    Settled,
}

impl LineStatus {
    /// Returns whether an answer is waited for.
    fn is_open(self) -> bool {
        matches!(
            self,
            Self::Checking | Self::Reserving | Self::Releasing | Self::Shipping
        )
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OrderStatus {
    #[default]
    Placed,
    Confirmed,
    Paid,
    Shipped,
    CalledOff,
}

impl Process for Fulfilment {
    const NAME: &'static str = "fulfilment";
    const AGGREGATES: &'static [&'static str] = &[Order::NAME];
    const TARGETS: &'static [&'static str] = &[Order::NAME, Product::NAME, Stock::NAME];

    type Fact = Fact;
    type Settings = Settings;

    fn correlate(event: &Recorded) -> Option<String> {
        (event.aggregate == Order::NAME).then(|| event.id.clone())
    }

    fn react(
        &self,
        input: &Input,
        settings: &Settings,
        at: &Context,
    ) -> Result<Reaction<Fact>, ReactError> {
        if let Input::Due(_) = input {
            let within = settings.payment_deadline;
            let reason = format!("not paid within {within:#}");
            // Only while nothing has happened to it since: a payment may have come just now.
            let cancel = order::Command::Cancel { reason };
            let version = self.confirmed_at;
            return Ok(Reaction::nothing().send_at::<Order>(&*at.id, version, cancel));
        }
        let facts = self.noted(input)?;
        let after = self.with(&facts);
        let mut reaction = Reaction::facts(facts.clone());
        for fact in &facts {
            reaction = match fact {
                Fact::Began { .. } => after.check(reaction),
                Fact::Confirmed { .. } => {
                    let until = at.now.checked_add(settings.payment_deadline);
                    let until = until.map_err(ReactError::failed)?;
                    reaction.deadline(PAYMENT, until)
                }
                Fact::Paid {} | Fact::Shipped {} | Fact::CalledOff {} => reaction.cancel(PAYMENT),
                _ => reaction,
            };
        }
        Ok(match facts.is_empty() {
            true => reaction,
            false => after.go_on(reaction, at),
        })
    }

    fn evolve(&mut self, fact: &Fact) {
        match fact {
            Fact::Began { branch, lines } => {
                self.branch.clone_from(branch);
                self.lines = lines.iter().cloned().map(Line::from).collect();
            }
            Fact::Checked { sku } => self.put(sku, LineStatus::Checked),
            Fact::ReserveSent {} => {
                for line in &mut self.lines {
                    line.status = LineStatus::Reserving;
                }
            }
            Fact::Reserved { sku } => self.put(sku, LineStatus::Reserved),
            Fact::Refused { sku, reason } => {
                self.put(sku, LineStatus::Refused);
                self.reason.get_or_insert_with(|| reason.clone());
            }
            Fact::ConfirmSent {} | Fact::RejectSent {} => self.answered = true,
            Fact::Confirmed { version } => {
                self.order = OrderStatus::Confirmed;
                self.confirmed_at = *version;
            }
            Fact::Paid {} => self.order = OrderStatus::Paid,
            Fact::Shipped {} => self.order = OrderStatus::Shipped,
            Fact::CalledOff {} => self.order = OrderStatus::CalledOff,
            Fact::ReleaseSent { skus } => {
                for sku in skus {
                    self.put(sku, LineStatus::Releasing);
                }
            }
            Fact::ShipSent { skus } => {
                for sku in skus {
                    self.put(sku, LineStatus::Shipping);
                }
            }
            Fact::Settled { sku } => self.put(sku, LineStatus::Settled),
        }
    }
}

impl Fulfilment {
    /// Returns what an input says.
    fn noted(&self, input: &Input) -> Result<Vec<Fact>, ReactError> {
        Ok(match input {
            Input::Event(event) => self.happened(event)?,
            Input::Accepted(sent, _) => answered(sent, None).into_iter().collect(),
            Input::Refused(sent, problem) => {
                answered(sent, Some(&problem.detail)).into_iter().collect()
            }
            Input::Due(_) => Vec::new(),
        })
    }

    fn happened(&self, event: &Recorded) -> Result<Vec<Fact>, ReactError> {
        let happened = event.event::<Order>()?;
        let begun = !self.lines.is_empty();
        Ok(match happened {
            order::Event::Placed { branch, lines, .. } if !begun => began(branch, lines),
            // Of an order that was placed before there was this process, nothing is known here.
            _ if !begun => Vec::new(),
            order::Event::Placed { .. } | order::Event::Delivered {} => Vec::new(),
            order::Event::Confirmed {} => vec![Fact::Confirmed {
                version: event.version,
            }],
            order::Event::Paid { .. } => vec![Fact::Paid {}],
            order::Event::Shipped {} => vec![Fact::Shipped {}],
            order::Event::Rejected { .. } | order::Event::Cancelled { .. } => {
                vec![Fact::CalledOff {}]
            }
        })
    }

    fn with(&self, facts: &[Fact]) -> Self {
        let mut after = self.clone();
        facts.iter().for_each(|fact| after.evolve(fact));
        after
    }

    fn put(&mut self, sku: &str, status: LineStatus) {
        for line in self.lines.iter_mut().filter(|line| line.sku == sku) {
            line.status = status;
        }
    }

    fn check(&self, mut reaction: Reaction<Fact>) -> Reaction<Fact> {
        for line in self.those(LineStatus::Checking) {
            let unit_price = line.unit_price;
            reaction = reaction.send::<Product>(&line.sku, product::Command::Check { unit_price });
        }
        reaction
    }

    /// Returns what is to be done next, all answers being in or not.
    fn go_on(&self, reaction: Reaction<Fact>, at: &Context) -> Reaction<Fact> {
        let order = at.id.to_string();
        match self.order {
            OrderStatus::CalledOff => self.release(reaction, &order),
            OrderStatus::Shipped => self.ship(reaction, &order),
            _ if self.lines.iter().any(|line| line.status.is_open()) => reaction,
            status => match &self.reason {
                Some(reason) if status == OrderStatus::Placed && !self.answered => {
                    let reason = reason.clone();
                    let reject = order::Command::Reject { reason };
                    reaction
                        .and(Fact::RejectSent {})
                        .send::<Order>(order, reject)
                }
                Some(_) => reaction,
                None if self.are_all(LineStatus::Checked) => self.reserve(reaction, &order),
                None if self.are_all(LineStatus::Reserved)
                    && status == OrderStatus::Placed
                    && !self.answered =>
                {
                    reaction
                        .and(Fact::ConfirmSent {})
                        .send::<Order>(order, order::Command::Confirm {})
                }
                None => reaction,
            },
        }
    }

    fn reserve(&self, mut reaction: Reaction<Fact>, order: &str) -> Reaction<Fact> {
        reaction = reaction.and(Fact::ReserveSent {});
        for line in &self.lines {
            let (order, quantity) = (order.into(), line.quantity);
            let reserve = stock::Command::Reserve { order, quantity };
            reaction = reaction.send::<Stock>(stock_id(&self.branch, &line.sku), reserve);
        }
        reaction
    }

    fn release(&self, reaction: Reaction<Fact>, order: &str) -> Reaction<Fact> {
        let release = |order| stock::Command::Release { order };
        let sent = |skus| Fact::ReleaseSent { skus };
        self.settle(reaction, order, release, sent)
    }

    fn ship(&self, reaction: Reaction<Fact>, order: &str) -> Reaction<Fact> {
        let ship = |order| stock::Command::Ship { order };
        let sent = |skus| Fact::ShipSent { skus };
        self.settle(reaction, order, ship, sent)
    }

    /// Settles what is set aside. The end is when nothing is, and no answer can bring anything more.
    fn settle(
        &self,
        mut reaction: Reaction<Fact>,
        order: &str,
        command: impl Fn(OrderId) -> stock::Command,
        sent: impl Fn(Vec<String>) -> Fact,
    ) -> Reaction<Fact> {
        let skus: Vec<_> = self.those(LineStatus::Reserved);
        let skus: Vec<_> = skus.into_iter().map(|line| line.sku.clone()).collect();
        for sku in &skus {
            let id = stock_id(&self.branch, sku);
            reaction = reaction.send::<Stock>(id, command(order.into()));
        }
        if !skus.is_empty() {
            return reaction.and(sent(skus));
        }
        match self.lines.iter().any(|line| line.status.is_open()) {
            true => reaction,
            false => reaction.end(),
        }
    }

    fn those(&self, status: LineStatus) -> Vec<&Line> {
        let lines = self.lines.iter();
        lines.filter(|line| line.status == status).collect()
    }

    fn are_all(&self, status: LineStatus) -> bool {
        self.lines.iter().all(|line| line.status == status)
    }
}

fn began(branch: String, lines: Vec<order::OrderLine>) -> Vec<Fact> {
    let mut facts = Vec::with_capacity(1);
    let mut refused = Vec::new();
    for line in &lines {
        if !super::rules::is_id(&stock_id(&branch, &line.sku)) {
            refused.push(Fact::Refused {
                sku: line.sku.clone(),
                reason: format!("{}: the branch has no such stock", line.sku),
            });
        }
    }
    facts.push(Fact::Began {
        branch,
        lines: lines.into_iter().map(NewLine::from).collect(),
    });
    facts.extend(refused);
    facts
}

/// Returns what an answer says: why the command was refused, if it was.
fn answered(sent: &Sent, refused: Option<&str>) -> Option<Fact> {
    let because = |sku: String, why: &str| {
        let reason = format!("{sku}: {why}");
        Fact::Refused { sku, reason }
    };
    if sent.is::<Product>() {
        let sku = sent.id.clone();
        return Some(match refused {
            None => Fact::Checked { sku },
            Some(why) => because(sku, why),
        });
    }
    let (_, sku) = stock::split_id(&sent.id)?;
    let sku = sku.to_owned();
    Some(match (sent.command::<Stock>()?, refused) {
        (stock::Command::Reserve { .. }, None) => Fact::Reserved { sku },
        (stock::Command::Reserve { .. }, Some(why)) => because(sku, why),
        // Refused, there is nothing set aside any more: somebody has settled it by hand.
        _ => Fact::Settled { sku },
    })
}

fn stock_id(branch: &str, sku: &str) -> String {
    format!("{branch}_{sku}")
}

impl From<order::OrderLine> for NewLine {
    fn from(line: order::OrderLine) -> Self {
        Self {
            sku: line.sku,
            quantity: line.quantity,
            unit_price: line.unit_price,
        }
    }
}

impl From<NewLine> for Line {
    fn from(line: NewLine) -> Self {
        Self {
            sku: line.sku,
            quantity: line.quantity,
            unit_price: line.unit_price,
            status: LineStatus::Checking,
        }
    }
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
