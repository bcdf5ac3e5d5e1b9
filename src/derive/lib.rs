//! The derive of `Rejection`, which `headwater_core::aggregate` shows and documents.

mod attributes;
mod rejection;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Derives `headwater_core::aggregate::Rejection` for an enum or a struct, which says itself to be an error, for
/// example by `thiserror`.
///
/// A refusal's **code** is the name of its variant (of the struct) in snake case. `#[refuses(…)]` says
/// which commands it refuses, by their variants, for the published description; without it, all. The
/// commands' names are those of the variants in snake case, as [serde] renames them.
///
/// | attribute | meaning |
/// |---|---|
/// | `#[refuses(Place, Pay)]` | these commands |
/// | `#[refuses(except(Place))]` | all commands but these |
/// | `#[refuses(Pay, codes("invalid_payment"))]` | the codes that the one field of the variant can have, by its own `code()`; once for each set of commands |
/// | `#[rejection(code = "gone")]` | another code than the name's |
/// | `#[rejection(scope = "staff")]` | the scope that the caller would have to have: 403 `forbidden` |
/// | `#[rejection(command = Order)]`, on the type | the type of the commands, where it is not called `Command` |
///
/// [serde]: https://serde.rs/container-attrs.html#rename_all
#[proc_macro_derive(Rejection, attributes(refuses, rejection))]
pub fn rejection(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let root = rejection::root();
    rejection::expand(&input, &root)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
