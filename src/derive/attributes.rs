//! The attributes of a refusal, read.

use syn::{
    Attribute, Expr, Ident, LitStr, Path, Token, parenthesized,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
};

/// All that is said of one refusal.
#[derive(Default)]
pub struct Said {
    /// Another code than the name's.
    pub code: Option<LitStr>,
    /// The scope that the caller would have to have.
    pub scope: Option<Expr>,
    /// The type of the commands, where it is not called `Command`.
    pub command: Option<Path>,
    /// The commands that it refuses; all when there are none.
    pub refuses: Vec<Refuses>,
}

/// One `#[refuses(…)]`.
pub struct Refuses {
    pub commands: Commands,
    /// The codes that the field of the variant can have, where it has codes of its own.
    pub codes: Vec<LitStr>,
}

/// The commands that are refused, as variants of their type.
pub enum Commands {
    These(Vec<Ident>),
    AllBut(Vec<Ident>),
}

impl Commands {
    /// Returns whether a command is among them.
    pub fn have(&self, command: &Ident) -> bool {
        match self {
            Self::These(names) => names.contains(command),
            Self::AllBut(names) => !names.contains(command),
        }
    }

    /// Returns whether a command that no attribute names is among them.
    pub fn have_others(&self) -> bool {
        matches!(self, Self::AllBut(_))
    }

    /// Returns the names that are written.
    pub fn names(&self) -> &[Ident] {
        match self {
            Self::These(names) | Self::AllBut(names) => names,
        }
    }
}

impl Said {
    /// Reads the attributes of a variant or a struct.
    ///
    /// # Errors
    ///
    /// Returns where an attribute says what is not known, or says it twice.
    pub fn read(attributes: &[Attribute]) -> syn::Result<Self> {
        let mut said = Self::default();
        for attribute in attributes {
            if attribute.path().is_ident("refuses") {
                said.refuses.push(refuses(attribute)?);
            } else if attribute.path().is_ident("rejection") {
                said.add(attribute)?;
            }
        }
        Ok(said)
    }

    fn add(&mut self, attribute: &Attribute) -> syn::Result<()> {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("code") && self.code.is_none() {
                self.code = Some(meta.value()?.parse()?);
                return Ok(());
            }
            if meta.path.is_ident("scope") && self.scope.is_none() {
                self.scope = Some(meta.value()?.parse()?);
                return Ok(());
            }
            if meta.path.is_ident("command") && self.command.is_none() {
                self.command = Some(meta.value()?.parse()?);
                return Ok(());
            }
            Err(meta.error("expected `code = \"…\"`, `scope = …` or `command = …`, each once"))
        })
    }
}

fn refuses(attribute: &Attribute) -> syn::Result<Refuses> {
    attribute.parse_args_with(|input: ParseStream<'_>| {
        let mut these = Vec::new();
        let mut all_but = None;
        let mut codes = Vec::new();
        while !input.is_empty() {
            let word: Ident = input.parse()?;
            if !input.peek(syn::token::Paren) {
                these.push(word);
            } else if word == "except" && all_but.is_none() {
                all_but = Some(list(input)?);
            } else if word == "codes" && codes.is_empty() {
                codes = list(input)?;
            } else {
                let must = "expected a variant of the commands, `except(…)` or `codes(…)`";
                return Err(syn::Error::new(word.span(), must));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let commands = match all_but {
            Some(all_but) if these.is_empty() => Commands::AllBut(all_but),
            Some(_) => return Err(input.error("either commands or `except(…)`, not both")),
            None if these.is_empty() => Commands::AllBut(Vec::new()),
            None => Commands::These(these),
        };
        Ok(Refuses { commands, codes })
    })
}

fn list<T: Parse>(input: ParseStream<'_>) -> syn::Result<Vec<T>> {
    let inner;
    parenthesized!(inner in input);
    let items = Punctuated::<T, Token![,]>::parse_terminated(&inner)?;
    Ok(items.into_iter().collect())
}
