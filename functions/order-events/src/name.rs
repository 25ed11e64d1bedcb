//! The meaning of the name of an event.
//!
//! A shop sends many events, and most do not concern stock: they are no errors. A name that is nearly one of ours is
//! probably that one misspelt. To ignore it would lose a fact, so it is refused.

use shared::domain::{Fact, Invalid, excerpt};
use shared::planted;

/// A name that differs from a known one in at most this many letters is taken for a slip.
const MAX_SLIPS: usize = 2;

/// The meaning of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A fact about an order.
    Fact(Fact),
    /// An update, whose status says what has happened.
    ByStatus,
    /// An event that does not concern stock.
    Nothing,
}

/// The names that are understood, without `Event` at their end.
const KNOWN: [(&str, Meaning); 12] = [
    ("OrderCreated", Meaning::Fact(Fact::Created)),
    ("BookingCreated", Meaning::Fact(Fact::Created)),
    ("PaymentSucceeded", Meaning::Fact(Fact::Paid)),
    ("PaymentProcessed", Meaning::Fact(Fact::Paid)),
    ("OrderPaid", Meaning::Fact(Fact::Paid)),
    ("PaymentFailed", Meaning::Fact(Fact::PaymentFailed)),
    ("OrderCancelled", Meaning::Fact(Fact::Cancelled)),
    ("OrderCanceled", Meaning::Fact(Fact::Cancelled)),
    ("BookingCancelled", Meaning::Fact(Fact::Cancelled)),
    ("BookingCanceled", Meaning::Fact(Fact::Cancelled)),
    ("OrderDelivered", Meaning::Fact(Fact::Delivered)),
    ("OrderUpdated", Meaning::ByStatus),
];

/// The subjects of the known names.
const SUBJECTS: [&str; 3] = ["order", "booking", "payment"];

/// Ordinary words that are within [`MAX_SLIPS`] of those, and mean something else.
const OTHER_SUBJECTS: [&str; 8] =
    ["offer", "reorder", "rider", "holder", "folder", "trader", "rebooking", "repayment"];

/// The verbs of the known names.
const VERBS: [&str; 9] =
    ["created", "paid", "failed", "cancelled", "canceled", "delivered", "updated", "succeeded", "processed"];

/// Ordinary words that are within [`MAX_SLIPS`] of those, and mean something else; some the opposite.
const OTHER_VERBS: [&str; 19] = [
    "rated",
    "related",
    "curated",
    "credited",
    "cleared",
    "seated",
    "treated",
    "recreated",
    "unpaid",
    "repaid",
    "void",
    "mailed",
    "filed",
    "undelivered",
    "redelivered",
    "uncancelled",
    "uncanceled",
    "reprocessed",
    "unprocessed",
];

/// The meaning of a name.
///
/// # Errors
/// If it is nearly a name that is understood: then it is not known what is meant.
pub(crate) fn find_meaning(name: &str) -> Result<Meaning, Invalid> {
    let full = normalize(name);
    let given = full.strip_suffix("event").unwrap_or(&full);
    if let Some((_, meaning)) = KNOWN.iter().find(|(known, _)| normalize(known) == given) {
        return Ok(*meaning);
    }
    let near = KNOWN
        .iter()
        .map(|(known, _)| (distance(&full, given, &normalize(known)), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= MAX_SLIPS);
    match near {
        Some((_, known)) if !is_ordinary(given) && !planted("a-slip-in-a-name-concerns-nobody") => {
            Err(Invalid(format!("the event {:?} is not understood; did you mean {known}?", excerpt(name))))
        }
        _ if planted("what-is-unknown-is-unreadable") => Err(Invalid("an unknown event".to_owned())),
        _ => Ok(Meaning::Nothing),
    }
}

/// In how many letters two names differ, with and without `event` at their end.
fn distance(full: &str, given: &str, known: &str) -> usize {
    // A long name is far from every known one, and comparing it would take long.
    if given.len().abs_diff(known.len()) > MAX_SLIPS + "event".len() {
        return usize::MAX;
    }
    strsim::levenshtein(given, known).min(strsim::levenshtein(full, &format!("{known}event")))
}

/// Whether a name is made of words that are known to mean something else.
fn is_ordinary(plain: &str) -> bool {
    let verbs = || VERBS.iter().chain(&OTHER_VERBS);
    let follows =
        |subject: &&&str| plain.strip_prefix(**subject).is_some_and(|rest| verbs().any(|verb| rest == *verb));
    SUBJECTS.iter().chain(&OTHER_SUBJECTS).any(|subject| follows(&subject))
}

/// A name without regard to case and punctuation.
pub(crate) fn normalize(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_refused_and_says_what_may_be_meant() {
        for (slip, meant) in [
            ("OrderCrated", "OrderCreated"),
            ("order.crated", "OrderCreated"),
            ("OrderCraeted", "OrderCreated"),
            ("OrdersCreated", "OrderCreated"),
            ("order_create", "OrderCreated"),
            ("OrderCreatedEvnt", "OrderCreated"),
            ("OrderCreatedV2", "OrderCreated"),
            ("BokingCreated", "BookingCreated"),
            ("PaymentSuceeded", "PaymentSucceeded"),
            ("PaymentFaild", "PaymentFailed"),
            ("OrderCancelld", "OrderCancelled"),
            ("order.cancel", "OrderCanceled"),
            ("OrderDeliverd", "OrderDelivered"),
            ("OrderUpdate", "OrderUpdated"),
            ("order.payd", "OrderPaid"),
        ] {
            let Invalid(why) = find_meaning(slip).expect_err(slip);
            assert!(why.ends_with(&format!("did you mean {meant}?")), "{slip}: {why}");
        }
    }

    #[test]
    fn what_a_shop_says_besides_needs_nothing() {
        for name in [
            "order.shipped",
            "order.refunded",
            "OrderCompleted",
            "OrderPlaced",
            "OrderPacked",
            "OrderPicked",
            "OrderReturned",
            "OrderDeleted",
            "OrderAccepted",
            "OrderPaused",
            "OrderHeld",
            "OrderExpired",
            "PaymentRefunded",
            "PaymentAuthorized",
            "PaymentCaptured",
            "PaymentPending",
            "PaymentDisputed",
            "InvoicePaid",
            "InvoiceCreated",
            "CustomerCreated",
            "CustomerUpdated",
            "CartUpdated",
            "UserCreated",
            "ShipmentCreated",
            "ShipmentDelivered",
            "BookingConfirmed",
            "BookingUpgraded",
            "PreorderCreated",
            // Within two letters of a known name.
            "OfferCreated",
            "offer.updated",
            "RiderCancelled",
            "ReorderCreated",
            "RepaymentFailed",
            "order.rated",
            "OrderCredited",
            "order.cleared",
            "OrderUnpaid",
            "OrderUndelivered",
            "OrderRedelivered",
            "order.void",
            "PaymentMailed",
            "BookingSeated",
            "OrderRatedEvent",
            "x",
            "ordres",
            &"OrderCreated".repeat(100_000),
        ] {
            assert_eq!(find_meaning(name), Ok(Meaning::Nothing), "{}", excerpt(name));
        }
    }

    /// A word that is not near would be one too many in the list.
    #[test]
    fn the_ordinary_words_are_near_known_names() {
        let near = |name: &str| {
            KNOWN.iter().any(|(known, _)| strsim::levenshtein(name, &normalize(known)) <= MAX_SLIPS)
        };
        for verb in OTHER_VERBS {
            assert!(SUBJECTS.iter().any(|subject| near(&format!("{subject}{verb}"))), "{verb}");
        }
        for subject in OTHER_SUBJECTS {
            assert!(VERBS.iter().any(|verb| near(&format!("{subject}{verb}"))), "{subject}");
        }
    }

    #[test]
    fn every_known_name_is_made_of_known_words() {
        for (known, meaning_of) in KNOWN {
            assert!(is_ordinary(&normalize(known)), "{known}");
            for name in [known.to_owned(), format!("{known}Event"), known.to_uppercase()] {
                assert_eq!(find_meaning(&name), Ok(meaning_of), "{name}");
            }
        }
    }
}
