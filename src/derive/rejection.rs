//! The code that the derive writes.

use crate::attributes::{Commands, Refuses, Said};
use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Span, TokenStream};
use quote::quote;
use std::collections::BTreeSet;
use syn::{Attribute, Data, DeriveInput, Fields, Ident, LitStr};

/// One way in which a command is refused: a variant, or the struct.
struct Way {
    /// The pattern that it is matched by; its only field is called `inner` where the code is the field's.
    pattern: TokenStream,
    code: Code,
    said: Said,
}

enum Code {
    Fixed(LitStr),
    OfField,
}

/// Returns the path of the crate that has the trait, from where the derive is used.
pub fn root() -> TokenStream {
    // A crate that has both names the narrower one.
    for name in ["headwater-core", "headwater"] {
        let found = match crate_name(name) {
            Ok(FoundCrate::Itself) => name.replace('-', "_"),
            Ok(FoundCrate::Name(name)) => name,
            Err(_) => continue,
        };
        let found = Ident::new(&found, Span::call_site());
        return quote!(::#found);
    }
    quote!(::headwater)
}

/// Writes the `impl`.
///
/// # Errors
///
/// Returns what is wrong with the attributes, and where.
pub fn expand(input: &DeriveInput, root: &TokenStream) -> syn::Result<TokenStream> {
    let ways = ways(input)?;
    let name = &input.ident;
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    let code = ways.iter().map(|way| {
        let pattern = &way.pattern;
        match &way.code {
            Code::Fixed(code) => quote!(#pattern => #code),
            Code::OfField => quote!(#pattern => inner.code()),
        }
    });
    let scopes = ways.iter().filter_map(|way| {
        let pattern = &way.pattern;
        let scope = way.said.scope.as_ref()?;
        Some(quote!(#pattern => ::core::option::Option::Some(#scope)))
    });
    let named = named(&ways);
    let codes = codes(&ways, &named);
    let check = check(input, &named)?;
    Ok(quote! {
        #check


        #[automatically_derived]
        impl #impl_generics #root::aggregate::Rejection for #name #type_generics #where_clause {
            fn code(&self) -> &'static str {
                match self { #(#code,)* }
            }

            fn missing_scope(&self) -> ::core::option::Option<&'static str> {
                match self {
                    #(#scopes,)*
                    _ => ::core::option::Option::None,
                }
            }

            fn codes(command: &str) -> &'static [&'static str] {
                #codes
            }
        }
    })
}

/// The commands that an attribute names, each once.
fn named(ways: &[Way]) -> BTreeSet<Ident> {
    ways.iter()
        .flat_map(|way| &way.said.refuses)
        .flat_map(|refuses| refuses.commands.names())
        .cloned()
        .collect()
}

/// Lets the compiler say that a command is misspelt.
fn check(input: &DeriveInput, named: &BTreeSet<Ident>) -> syn::Result<TokenStream> {
    let said = Said::read(&input.attrs)?;
    let command = match said.command {
        Some(command) => command,
        None => syn::parse_quote!(Command),
    };
    if named.is_empty() {
        return Ok(TokenStream::new());
    }
    Ok(quote! {
        const _: () = {
            #[allow(dead_code, irrefutable_let_patterns)]
            fn names(command: &#command) {
                #(if let #command::#named { .. } = command {})*
            }
        };
    })
}

/// For each command that an attribute names its codes, and for all others theirs.
fn codes(ways: &[Way], named: &BTreeSet<Ident>) -> TokenStream {
    let arms = named.iter().map(|command| {
        let codes = codes_where(ways, |commands| commands.have(command));
        let command = snake_case(&command.to_string());
        quote!(#command => &[#(#codes),*])
    });
    let others = codes_where(ways, Commands::have_others);
    quote! {
        match command {
            #(#arms,)*
            _ => &[#(#others),*],
        }
    }
}

fn codes_where(ways: &[Way], refused: impl Fn(&Commands) -> bool) -> Vec<&LitStr> {
    let mut codes = Vec::new();
    for way in ways.iter().filter(|way| way.said.scope.is_none()) {
        match &way.code {
            Code::Fixed(code) => {
                let all = way.said.refuses.is_empty() && refused(&Commands::AllBut(Vec::new()));
                if all || way.said.refuses.iter().any(|one| refused(&one.commands)) {
                    codes.push(code);
                }
            }
            Code::OfField => {
                let of_these = |one: &&Refuses| refused(&one.commands);
                codes.extend(
                    way.said
                        .refuses
                        .iter()
                        .filter(of_these)
                        .flat_map(|one| &one.codes),
                );
            }
        }
    }
    codes
}

fn ways(input: &DeriveInput) -> syn::Result<Vec<Way>> {
    match &input.data {
        Data::Enum(data) => data
            .variants
            .iter()
            .map(|variant| {
                let name = &variant.ident;
                way(&quote!(Self::#name), name, &variant.fields, &variant.attrs)
            })
            .collect(),
        Data::Struct(data) => {
            let way = way(&quote!(Self), &input.ident, &data.fields, &input.attrs)?;
            Ok(vec![way])
        }
        Data::Union(_) => {
            let must = "a refusal is an enum or a struct";
            Err(syn::Error::new(input.ident.span(), must))
        }
    }
}

fn way(
    path: &TokenStream,
    name: &Ident,
    fields: &Fields,
    attributes: &[Attribute],
) -> syn::Result<Way> {
    let said = Said::read(attributes)?;
    let has_codes = said.refuses.iter().any(|one| !one.codes.is_empty());
    if !has_codes {
        let code = match (&said.code, &said.scope) {
            (Some(code), _) => code.clone(),
            (None, Some(_)) => LitStr::new("forbidden", name.span()),
            (None, None) => LitStr::new(&snake_case(&name.to_string()), name.span()),
        };
        return Ok(Way {
            pattern: quote!(#path { .. }),
            code: Code::Fixed(code),
            said,
        });
    }
    let in_all = said.refuses.iter().all(|one| !one.codes.is_empty());
    if !in_all || said.code.is_some() || said.scope.is_some() {
        let must = "the codes are the field's: every `refuses` names them, and nothing else does";
        return Err(syn::Error::new(name.span(), must));
    }
    match fields {
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => Ok(Way {
            pattern: quote!(#path(inner)),
            code: Code::OfField,
            said,
        }),
        _ => {
            let must = "`codes(…)` is for what has one field without a name, which has a `code()`";
            Err(syn::Error::new(name.span(), must))
        }
    }
}

/// `IllegalTransition` as `illegal_transition`.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for (index, c) in name.chars().enumerate() {
        if c.is_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    fn error(input: &DeriveInput) -> String {
        expand(input, &quote!(::headwater)).unwrap_err().to_string()
    }

    #[test]
    fn a_variant_without_attributes_is_its_name_and_refuses_every_command() {
        let input = parse_quote! {
            enum Refusal { InsufficientFunds { balance: i64 } }
        };
        let code = expand(&input, &quote!(::headwater)).unwrap().to_string();
        assert!(
            code.contains(r#"Self :: InsufficientFunds { .. } => "insufficient_funds""#),
            "{code}"
        );
        assert!(code.contains(r#"_ => & ["insufficient_funds"]"#), "{code}");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let told = |input: DeriveInput| error(&input);
        let union = told(parse_quote! { union Refusal { a: u8 } });
        assert_eq!(union, "a refusal is an enum or a struct");
        let word = told(parse_quote! { #[refuses(only(Place))] struct Full; });
        assert_eq!(
            word,
            "expected a variant of the commands, `except(…)` or `codes(…)`"
        );
        let key = told(parse_quote! { #[rejection(status = 404)] struct Full; });
        assert_eq!(
            key,
            "expected `code = \"…\"`, `scope = …` or `command = …`, each once"
        );
        let both = told(parse_quote! { #[refuses(Place, except(Pay))] struct Full; });
        assert!(both.contains("not both"), "{both}");
        let no_field = told(parse_quote! { #[refuses(Place, codes("bad"))] struct Full; });
        assert!(no_field.contains("one field"), "{no_field}");
        let half = told(parse_quote! {
            #[refuses(Place, codes("bad"))]
            #[refuses(Pay)]
            struct Full(Inner);
        });
        assert!(half.contains("the codes are the field's"), "{half}");
    }
}
