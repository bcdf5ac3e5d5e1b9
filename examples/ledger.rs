//! A domain of your own: bank accounts, and a view of their balances.
//!
//! `cargo run --example ledger` starts everything on free ports in a temporary folder, moves some
//! money, and reads the balance back at the position that the command answered.

use headwater::prelude::*;
use serde::{Deserialize, Serialize};

// Event names are the storage format: they are never renamed, only versioned.
#[derive(Clone, Serialize, Deserialize)]
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

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the account is not open")]
    NotFound,
    #[error("the balance is {0}")]
    InsufficientFunds(i64),
}

impl Rejection for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::InsufficientFunds(_) => "insufficient_funds",
        }
    }

    fn codes(command: &str) -> &'static [&'static str] {
        match command {
            "open" => &[],
            "deposit" => &["not_found"],
            _ => &["not_found", "insufficient_funds"],
        }
    }
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

/// What is read: one document an account.
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

fn main() -> anyhow::Result<()> {
    let domain = Domain::new().aggregate::<Account>().view::<Balance>();
    headwater::run(async {
        let dev = Dev::start_temporary(domain).await?;
        let (commands, queries) = (dev.platform().commands(), dev.platform().queries());
        let send = async |command| {
            let headers = CommandHeaders::default();
            commands.send::<Account>("ada", &command, headers).await
        };
        let owner = "Ada".to_owned();
        send(Command::Open { owner }).await?;
        send(Command::Deposit { amount: 100 }).await?;
        let outcome = send(Command::Withdraw { amount: 30 }).await?;
        if let Err(problem) = send(Command::Withdraw { amount: 1_000 }).await {
            println!("refused: {problem}");
        }
        let at_least = Freshness::at_least(&outcome); // reads its own writes
        let read = queries.get("balance", "ada", &at_least).await?;
        println!("{}: {}", outcome.position_token(), read.value.document);
        dev.stop().await;
        Ok(())
    })
}
