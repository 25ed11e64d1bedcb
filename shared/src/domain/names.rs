//! Identifiers. Each parses from text once, at the edge; a value that exists is valid.

use std::fmt;

use serde::Deserialize;
use thiserror::Error;
use uuid::Uuid;

/// Longest product id, location, key or shipment id, in characters.
const MAX_CODE_CHARS: usize = 100;

/// Longest order id, in characters. Shops name orders freely (`#1001`, `ORD 2026/17`), so
/// only the length and control characters are limited.
const MAX_ORDER_ID_CHARS: usize = 200;

/// Longest reason, in characters. A reason is free text; this keeps records and events small.
const MAX_REASON_CHARS: usize = 200;

/// Namespace of reservation ids. It must never change: a reservation is found by
/// computing its id from the order id again.
const RESERVATION_NAMESPACE: Uuid = Uuid::from_u128(0x5d1c_8a6e_3f27_4b90_9c41_e0d7_72f6_b1a3);

/// An invalid value; the sentence says what it was and what would be valid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// Declares a newtype over text that is parsed by `$parse`.
macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $parse:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// Parses it.
            ///
            /// # Errors
            /// Says which rule the text breaks.
            pub fn parse(text: impl Into<String>) -> Result<Self, Invalid> {
                let text = text.into();
                let check: fn(&str) -> Result<(), Invalid> = $parse;
                check(&text)?;
                Ok(Self(text))
            }

            /// The text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_newtype!(
    /// The id of a product: 1–100 characters, letters, digits and `-_.:`.
    ProductId,
    |text| code("a product id", text)
);

text_newtype!(
    /// The location of stock: 1–100 characters, letters, digits and `-_.:`. Default `main`.
    Location,
    |text| code("a location", text)
);

text_newtype!(
    /// A shop's name for an order: 1–200 characters, no control characters, no space at
    /// either end.
    OrderId,
    order_id
);

text_newtype!(
    /// Why stock was given back or corrected: any text of 1–200 characters that is not blank, kept as it was given.
    Reason,
    reason
);

text_newtype!(
    /// The key under which a stock operation is applied once: 1–100 characters, letters, digits,
    /// `-_.:`, and `=+/` of base64, because API Gateway's request ids are of that form.
    IdempotencyKey,
    |text| code_of("an Idempotency-Key", "-_.:=+/", text)
);

text_newtype!(
    /// Tells one part shipment of an order from another: 1–100 characters, letters, digits
    /// and `-_.:`.
    ShipmentId,
    |text| code("a shipment id", text)
);

impl Default for Location {
    fn default() -> Self {
        Self("main".to_owned())
    }
}

impl Reason {
    /// The order was cancelled.
    #[must_use]
    pub fn order_cancelled() -> Self {
        Self("order_cancelled".to_owned())
    }

    /// The payment failed. The only reason that a later payment undoes.
    #[must_use]
    pub fn payment_failed() -> Self {
        Self("payment_failed".to_owned())
    }

    /// Whether it says, in any spelling (`payment_failed`, `Payment failed`, `PaymentFailed`), that the payment failed.
    #[must_use]
    pub fn is_payment_failed(&self) -> bool {
        let letters = self.0.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase);
        letters.eq("paymentfailed".chars())
    }

    /// The order was delivered, and this was not among it.
    #[must_use]
    pub fn not_delivered() -> Self {
        Self("not_delivered".to_owned())
    }

    /// The order has more lines than one transaction takes.
    #[must_use]
    pub fn too_many_lines() -> Self {
        Self("too_many_lines".to_owned())
    }

    /// Released by request, without a reason of its own.
    #[must_use]
    pub fn requested() -> Self {
        Self("requested".to_owned())
    }
}

/// Names the one reservation of an order: the order id's UUIDv5 (RFC 9562) in a fixed namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId(Uuid);

impl ReservationId {
    /// The reservation id of an order: the same on every retry and on every machine.
    #[must_use]
    pub fn of(order: &OrderId) -> Self {
        Self(Uuid::new_v5(&RESERVATION_NAMESPACE, order.as_str().as_bytes()))
    }

    /// Parses one that a client sent back.
    ///
    /// # Errors
    /// If the text is not a UUID.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Uuid::try_parse(text).map(Self).map_err(|_| {
            Invalid(format!("a reservation id is a UUID as a reserve answers it, not {:?}", excerpt(text)))
        })
    }

    /// The id as a number whose bits are evenly spread. It chooses the shard.
    #[must_use]
    pub fn spread(&self) -> u128 {
        self.0.as_u128()
    }
}

impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for ReservationId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

fn code(what: &str, text: &str) -> Result<(), Invalid> {
    code_of(what, "-_.:", text)
}

/// Letters, digits and these signs.
fn code_of(what: &str, signs: &str, text: &str) -> Result<(), Invalid> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || signs.contains(c);
    // All allowed characters are one byte long, so bytes count characters.
    if (1..=MAX_CODE_CHARS).contains(&text.len()) && text.chars().all(allowed) {
        return Ok(());
    }
    Err(Invalid(format!(
        "{what} has 1 to {MAX_CODE_CHARS} characters, each a letter, a digit or one of {signs:?}, unlike {:?}",
        excerpt(text)
    )))
}

fn order_id(text: &str) -> Result<(), Invalid> {
    let length = text.chars().count();
    if (1..=MAX_ORDER_ID_CHARS).contains(&length)
        && text.trim() == text
        && !text.chars().any(char::is_control)
    {
        return Ok(());
    }
    Err(Invalid(format!(
        "an order id has 1 to {MAX_ORDER_ID_CHARS} characters, no control characters and no space at either end, unlike {:?}",
        excerpt(text)
    )))
}

fn reason(text: &str) -> Result<(), Invalid> {
    let length = text.chars().count();
    if (1..=MAX_REASON_CHARS).contains(&length) && !text.trim().is_empty() {
        return Ok(());
    }
    Err(Invalid(format!(
        "a reason is a text of 1 to {MAX_REASON_CHARS} characters that is not blank, unlike {:?}",
        excerpt(text)
    )))
}

/// Most characters of a text from outside that are quoted in an answer, an error or a log line.
pub const MAX_QUOTED_CHARS: usize = 80;

/// A text from outside, as it is quoted: a long one is cut.
#[must_use]
pub fn excerpt(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Most characters of a sentence that a parser wrote and that may quote its input.
const MAX_SENTENCE_CHARS: usize = 600;

/// A sentence that quotes texts from outside in a way of its own. A long one loses its middle: the text that was met
/// stands at the beginning, the text that was expected at the end.
#[must_use]
pub fn excerpt_of_sentence(sentence: &str) -> String {
    let chars = sentence.chars().count();
    if chars <= MAX_SENTENCE_CHARS {
        return sentence.to_owned();
    }
    let tail: String = sentence.chars().skip(chars - (MAX_SENTENCE_CHARS - MAX_QUOTED_CHARS)).collect();
    format!("{}{tail}", excerpt(sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_id_keeps_to_its_characters() {
        for good in ["A", "LAPTOP-001", "a.b:c_d", &"x".repeat(100)] {
            assert_eq!(ProductId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", " ", "a b", "a#b", "ü", "a/b", &"x".repeat(101)] {
            assert!(ProductId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_order_id_may_be_what_shops_use() {
        for good in ["#1001", "ORD 2026/17", "注文-1", &"ü".repeat(200)] {
            assert_eq!(OrderId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", " a", "a ", "a\nb", &"ü".repeat(201)] {
            assert!(OrderId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_reason_is_any_text_and_is_kept_as_given() {
        for good in ["Customer changed their mind", "kaputt – Glasbruch", "2nd try #4", &"ü".repeat(200)] {
            assert_eq!(Reason::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "  ", "\n", &"ü".repeat(201)] {
            assert!(Reason::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_failed_payment_is_recognised_in_any_spelling() {
        for same in
            ["payment_failed", "Payment failed", "PaymentFailed", "PAYMENT-FAILED.", " payment failed"]
        {
            assert!(Reason::parse(same).unwrap().is_payment_failed(), "{same}");
        }
        for other in ["the payment failed", "payment failed twice", "payment_faile", "requested"] {
            assert!(!Reason::parse(other).unwrap().is_payment_failed(), "{other}");
        }
        assert!(Reason::payment_failed().is_payment_failed());
    }

    /// The namespace is part of the stored data: this value must never change.
    #[test]
    fn a_reservation_id_is_fixed_by_the_order() {
        let id = ReservationId::of(&OrderId::parse("order-123").unwrap());
        assert_eq!(id.to_string(), "61c27f36-5444-5c71-b7cd-e8410b1ac5db");
    }

    #[test]
    fn reservation_ids_are_spread() {
        let shards: std::collections::BTreeSet<u128> = (0..1_000)
            .map(|i| ReservationId::of(&OrderId::parse(format!("o-{i}")).unwrap()).spread() % 16)
            .collect();
        assert_eq!(shards.len(), 16);
    }

    #[test]
    fn a_message_shows_the_beginning_of_a_long_text() {
        let told = |text: &str| ProductId::parse(text).unwrap_err().0;
        assert!(told("a b").ends_with(r#"unlike "a b""#), "{}", told("a b"));
        let long = "x".repeat(MAX_QUOTED_CHARS - 1);
        let (most, more) = (format!("{long} "), format!("{long} y"));
        assert!(told(&most).ends_with(&format!("unlike {most:?}")), "{}", told(&most));
        assert!(told(&more).ends_with(&format!("unlike {:?}", format!("{most}…"))), "{}", told(&more));
        assert!(ReservationId::parse(&"ü".repeat(1_000_000)).unwrap_err().0.len() < 300);
    }

    #[test]
    fn a_long_sentence_keeps_its_beginning_and_its_end() {
        let sentence = |name: &str| format!("unknown field `{name}`, expected one of `a`, `b`");
        assert_eq!(excerpt_of_sentence(&sentence("c")), sentence("c"));
        let cut = excerpt_of_sentence(&sentence(&"ü".repeat(100_000)));
        assert!(
            cut.starts_with("unknown field `ü")
                && cut.contains('…')
                && cut.ends_with("expected one of `a`, `b`")
        );
        assert!(cut.chars().count() <= MAX_SENTENCE_CHARS + 1, "{cut}");
    }
}
