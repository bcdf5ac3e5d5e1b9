//! The ids that commands name, as types: each knows its schema, its bounds, and the code that refuses it.
//!
//! One that is out of bounds is decoded all the same: it is a refusal of the domain, as is every other value
//! out of bounds.

use super::rules::{self, Invalid};
use serde::{Deserialize, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::Type},
};

/// The words for an id's bounds.
const ID: &str = "1 to 64 of A-Z a-z 0-9 _ -, and not \"live\"";
/// The words for the bounds of an id that others can be joined to.
const PREFIX: &str = "1 to 64 of A-Z a-z 0-9 -, and not \"live\"";

macro_rules! id {
    ($(#[$doc:meta])* $name:ident: $code:literal, $is:path, $must:ident, $pattern:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks it, and returns it as it is stored.
            ///
            /// # Errors
            ///
            #[doc = concat!("Returns [`Invalid`] with `", $code, "` when it is out of bounds.")]
            pub fn valid(self) -> Result<String, Invalid> {
                match $is(&self.0) {
                    true => Ok(self.0),
                    false => Err(Invalid::new($code, $must)),
                }
            }
        }

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<T: Into<String>> From<T> for $name {
            fn from(id: T) -> Self {
                Self(id.into())
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let schema = ObjectBuilder::new()
                    .schema_type(Type::String)
                    .min_length(Some(1))
                    .max_length(Some(rules::MAX_ID))
                    .pattern(Some($pattern))
                    .examples([$example]);
                schema.into()
            }
        }

        impl ToSchema for $name {}
    };
}

id! {
    /// A product.
    Sku: "invalid_sku", rules::is_id, ID, "^(?!live$)[A-Za-z0-9_-]+$", "apple-1kg"
}
id! {
    /// A member.
    MemberId: "invalid_member", rules::is_id, ID, "^(?!live$)[A-Za-z0-9_-]+$", "m-haneul"
}
id! {
    /// An order.
    OrderId: "invalid_order", rules::is_id, ID, "^(?!live$)[A-Za-z0-9_-]+$", "o-1"
}
id! {
    /// A branch: `_` ends it in the id of a stock, so it has none.
    Branch: "invalid_branch", rules::is_prefix, PREFIX, "^(?!live$)[A-Za-z0-9-]+$", "gangnam"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_id_is_text_with_a_schema_and_a_code_of_its_own() {
        let order: OrderId = serde_json::from_value(json!("o-1")).unwrap();
        assert_eq!(order, OrderId::from("o-1"));
        assert_eq!(order.valid().as_deref(), Ok("o-1"));
        for bad in ["", "live", "a.b", "사과", &"x".repeat(65)] {
            let refused = MemberId::from(bad).valid().unwrap_err();
            assert_eq!(refused.code(), "invalid_member", "{bad}");
        }
        assert!(Sku::from("a_b").valid().is_ok());
        assert_eq!(
            Branch::from("a_b").valid().unwrap_err().code(),
            "invalid_branch"
        );
        let schema = serde_json::to_value(Branch::schema()).unwrap();
        assert_eq!(schema["pattern"], "^(?!live$)[A-Za-z0-9-]+$");
        assert_eq!(schema["maxLength"], 64);
    }
}
