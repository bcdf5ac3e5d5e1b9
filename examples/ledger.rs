//! A domain of your own in 100 lines: bank accounts, and a view of their balances.
//!
//! `cargo run --example ledger` starts everything on free ports in a temporary folder, moves some
//! money, and reads the balance back at the position that the command answered.

use headwater::prelude::*;
use serde::{Deserialize, Serialize};

/// An account's state: what the rules need to know, and nothing else.
#[derive(Default, Clone, Serialize, Deserialize)]
struct Account {
    owner: Option<String>,
    balance: i64,
}

// Event names are the storage format: they are never renamed, only versioned.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum AccountEvent {
    #[serde(rename = "account.opened.v1")]
    Opened { owner: String },
    #[serde(rename = "account.deposited.v1")]
    Deposited { amount: i64, balance: i64 },
    #[serde(rename = "account.withdrawn.v1")]
    Withdrawn { amount: i64, balance: i64 },
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum AccountCommand {
    /// Opens the account.
    Open { owner: String },
    /// Pays money in.
    Deposit { amount: i64 },
    /// Takes money out, as far as there is any.
    Withdraw { amount: i64 },
}

#[derive(Debug, thiserror::Error)]
enum AccountRejection {
    #[error("the account is not open")]
    NotFound,
    #[error("the account is open already")]
    AlreadyOpened,
    #[error("amount is at least 1")]
    InvalidAmount,
    #[error("the balance is {0}")]
    InsufficientFunds(i64),
}

impl Rejection for AccountRejection {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyOpened => "already_opened",
            Self::InvalidAmount => "invalid_amount",
            Self::InsufficientFunds(_) => "insufficient_funds",
        }
    }

    fn codes(command: &str) -> &'static [&'static str] {
        match command {
            "open" => &["already_opened"],
            "deposit" => &["not_found", "invalid_amount"],
            _ => &["not_found", "invalid_amount", "insufficient_funds"],
        }
    }
}

impl Aggregate for Account {
    const NAME: &'static str = "account";
    type Command = AccountCommand;
    type Event = AccountEvent;
    type Rejection = AccountRejection;

    fn decide(
        &self,
        command: AccountCommand,
        _: &Context,
    ) -> Result<Decision<AccountEvent>, AccountRejection> {
        use AccountCommand::{Deposit, Open, Withdraw};
        let balance = self.balance;
        match command {
            Open { .. } if self.owner.is_some() => Err(AccountRejection::AlreadyOpened),
            Open { owner } => Ok(Decision::event(AccountEvent::Opened { owner })),
            _ if self.owner.is_none() => Err(AccountRejection::NotFound),
            Deposit { amount } | Withdraw { amount } if amount < 1 => {
                Err(AccountRejection::InvalidAmount)
            }
            Deposit { amount } => {
                let balance = balance
                    .checked_add(amount)
                    .ok_or(AccountRejection::InvalidAmount)?;
                Ok(Decision::event(AccountEvent::Deposited { amount, balance }))
            }
            Withdraw { amount } if amount > balance => {
                Err(AccountRejection::InsufficientFunds(balance))
            }
            Withdraw { amount } => Ok(Decision::event(AccountEvent::Withdrawn {
                amount,
                balance: balance - amount,
            })),
        }
    }

    fn evolve(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Opened { owner } => self.owner = Some(owner.clone()),
            AccountEvent::Deposited { balance, .. } | AccountEvent::Withdrawn { balance, .. } => {
                self.balance = *balance;
            }
        }
    }
}

/// What is read: one document an account.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
struct Balance {
    owner: String,
    balance: i64,
}

struct Balances;

impl View for Balances {
    const NAME: &'static str = "balance";
    const VERSION: u32 = 1;
    const AGGREGATES: &'static [&'static str] = &[Account::NAME];
    type Document = Balance;
    type Part = ();

    fn query() -> Query {
        Query {
            sorts: vec![Sort {
                field: "balance",
                kind: Kind::Integer,
            }],
            ..Query::default()
        }
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
            (AccountEvent::Opened { owner }, _) => Change::Put(Balance { owner, balance: 0 }),
            (
                AccountEvent::Deposited { balance, .. } | AccountEvent::Withdrawn { balance, .. },
                Some(document),
            ) => Change::Put(Balance {
                balance,
                ..document
            }),
            (_, None) => return Err(ApplyError::refused("an account begins by being opened")),
        })
    }
}

fn main() -> anyhow::Result<()> {
    let domain = Domain::new().aggregate::<Account>().view::<Balances>();
    headwater::run(async {
        let dev = Dev::start_temporary(domain).await?;
        let (commands, queries) = (dev.platform().commands(), dev.platform().queries());
        let give = async |command| {
            commands
                .send::<Account>("ada", &command, CommandHeaders::default())
                .await
        };

        give(AccountCommand::Open {
            owner: "Ada".into(),
        })
        .await?;
        give(AccountCommand::Deposit { amount: 100 }).await?;
        let outcome = give(AccountCommand::Withdraw { amount: 30 }).await?;
        if let Err(problem) = give(AccountCommand::Withdraw { amount: 1_000 }).await {
            println!("refused: {problem}");
        }
        let balance = queries
            .get(Balances::NAME, "ada", &Freshness::at_least(&outcome))
            .await?;
        println!(
            "at {}: {}",
            outcome.position_token(),
            balance.value.document
        );
        dev.stop().await;
        Ok(())
    })
}
