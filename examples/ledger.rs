//! A ledger: bank accounts, and a view of their balances.
//!
//! `cargo run --example ledger -- dev` runs all of it on this machine; `-- serve`, `views`, `parked`,
//! `events` and `topology` are there too, as `-- --help` says.

use headwater::prelude::*;
use serde::{Deserialize, Serialize};
use std::process::ExitCode;

// Event names are the storage format: they are never renamed, only versioned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum Event {
    #[serde(rename = "account.opened.v1")]
    Opened { owner: String },
    #[serde(rename = "account.moved.v1")]
    Moved { amount: i64, balance: i64 },
}

#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Command {
    /// Opens the account.
    Open { owner: String },
    /// Pays money in.
    Deposit { amount: u32 },
    /// Takes money out, as far as there is any.
    Withdraw { amount: u32 },
}

#[derive(Debug, thiserror::Error, Rejection)]
enum Refusal {
    #[error("the account is not open")]
    #[refuses(except(Open))]
    NotFound,
    #[error("the balance is {0}")]
    #[refuses(Withdraw)]
    InsufficientFunds(i64),
}

/// An account's state: what the rules need to know, and nothing else.
#[derive(Default, Clone, Serialize, Deserialize)]
struct Account {
    open: bool,
    balance: i64,
}

impl Aggregate for Account {
    const NAME: &'static str = "account";
    type Command = Command;
    type Event = Event;
    type Rejection = Refusal;

    fn decide(&self, command: Command, _: &Context) -> Result<Decision<Event>, Refusal> {
        let amount = match command {
            Command::Open { .. } if self.open => return Ok(Decision::nothing()),
            Command::Open { owner } => return Ok(Decision::event(Event::Opened { owner })),
            _ if !self.open => return Err(Refusal::NotFound),
            Command::Deposit { amount } => i64::from(amount),
            Command::Withdraw { amount } => -i64::from(amount),
        };
        let balance = self.balance + amount;
        if balance < 0 {
            return Err(Refusal::InsufficientFunds(self.balance));
        }
        Ok(Decision::event(Event::Moved { amount, balance }))
    }

    fn evolve(&mut self, event: &Event) {
        match event {
            Event::Opened { .. } => self.open = true,
            Event::Moved { balance, .. } => self.balance = *balance,
        }
    }
}

/// The document: one an account.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
struct Balance {
    owner: String,
    balance: i64,
}

impl View for Balance {
    const NAME: &'static str = "balance";
    const VERSION: u32 = 1;
    const AGGREGATES: &'static [&'static str] = &[Account::NAME];
    type Document = Self;
    type Part = (); // a view composed of several aggregates keeps what it needs of each

    fn query() -> Query {
        Query::default() // nothing to filter, sort or search by
    }

    fn route(event: &Recorded, _: &Parts<()>) -> Result<Route, ApplyError> {
        Ok(Route::id(&event.id))
    }

    fn apply(
        _: &str,
        document: Option<Balance>,
        event: &Recorded,
        _: &Parts<()>,
    ) -> Result<Change<Balance>, ApplyError> {
        Ok(match (event.event::<Account>()?, document) {
            (Event::Opened { owner }, _) => Change::Put(Balance { owner, balance: 0 }),
            (Event::Moved { balance, .. }, Some(old)) => Change::Put(Balance { balance, ..old }),
            (Event::Moved { .. }, None) => return Err(ApplyError::refused("it was not opened")),
        })
    }
}

fn main() -> ExitCode {
    let owner = "Ada".to_owned();
    Program::new("ledger", domain())
        .sample(vec![
            SampleCommand::new::<Account>("ada", &Command::Open { owner }),
            SampleCommand::new::<Account>("ada", &Command::Deposit { amount: 100 }),
        ])
        .version(env!("CARGO_PKG_VERSION"))
        .about("Bank accounts, and a view of their balances")
        .example("curl -s '{http}/commands/account/ada/withdraw' -H 'Content-Type: application/json' -d '{\"amount\": 30}'")
        .example("curl -s '{http}/views/balance/ada'")
        .run()
}

fn domain() -> Domain {
    Domain::new().aggregate::<Account>().view::<Balance>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater::testkit::{Given, Log, ViewFold};

    fn opened() -> Event {
        let owner = "Ada".to_owned();
        Event::Opened { owner }
    }

    fn moved(amount: i64, balance: i64) -> Event {
        Event::Moved { amount, balance }
    }

    #[test]
    fn what_is_there_can_be_withdrawn_and_no_more() {
        let account = Given::<Account>::events([opened(), moved(100, 100)]);
        let withdraw = |amount| account.when(Command::Withdraw { amount });
        withdraw(30).then_events([moved(-30, 70)]);
        withdraw(101).then_rejected("insufficient_funds");
    }

    #[test]
    fn a_balance_is_what_was_moved() {
        let log = Log::new().add::<Account>("ada", [opened(), moved(100, 100), moved(-30, 70)]);
        let view = ViewFold::<Balance>::of(log.events());
        assert_eq!(view.get("ada").unwrap().balance, 70);
    }
}
