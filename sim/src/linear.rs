//! Whether a history of one product, as its clients saw it, is that of a shop that does one thing at a time:
//! the search of Wing and Gong, with Lowe's memory of what was tried. It knows nothing of the tables.

use std::collections::HashSet;

use serde_json::Value;

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Order {
    Nothing,
    /// Held until then. Whether that is over is judged by each request's own time, the one at which it began.
    Held(i64),
    Confirmed,
    Released,
    Expired,
}

/// An operation on one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Holds a quantity, for so many milliseconds.
    Reserve(u64, i64),
    /// Keeps it.
    Confirm,
    /// Gives it back.
    Release,
    /// The sweep gives it back: nobody asked, it may happen at any moment.
    Sweep,
}

/// Its outcome, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No answer: it may have happened, now or later or never.
    Maybe,
    /// Done.
    Done,
    /// Refused, with the code and how much was said to be available.
    Refused(String, Option<u64>),
}

/// One operation: when it was asked and when answered.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The order's number.
    pub order: usize,
    /// The operation.
    pub act: Act,
    /// The time by which it counts, in milliseconds.
    pub now: i64,
    /// When it was asked, in the order of such moments.
    pub began: u64,
    /// When the answer came; never, where none did.
    pub ended: u64,
    /// The answer, or that there was none.
    pub outcome: Outcome,
}

impl Outcome {
    /// Reads an answer.
    #[must_use]
    pub fn of(answer: Option<&(u16, Value)>) -> Self {
        match answer {
            Some((200 | 201, _)) => Self::Done,
            None | Some((503, _)) => Self::Maybe,
            Some((_, body)) => Self::Refused(
                body["code"].as_str().unwrap_or_default().to_owned(),
                body["products"][0]["availableQuantity"].as_u64(),
            ),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Shop {
    available: u64,
    orders: Vec<Order>,
    quantities: Vec<u64>,
}

impl Shop {
    /// The shop after it was done; none where it cannot be done now.
    fn done(&self, operation: &Operation) -> Option<Self> {
        use Order::{Confirmed, Expired, Held, Nothing, Released};
        let mut next = self.clone();
        let (order, quantity) = (&mut next.orders[operation.order], self.quantities[operation.order]);
        match (operation.act, *order) {
            (Act::Reserve(wanted, ttl), Nothing) => {
                next.quantities[operation.order] = wanted;
                next.available = next.available.checked_sub(wanted)?;
                *order = Held(operation.now + ttl);
            }
            (Act::Reserve(..), Held(until)) if operation.now < until => {}
            (Act::Reserve(..) | Act::Confirm, Confirmed) | (Act::Release, Released) => {}
            (Act::Confirm, Held(until)) if operation.now < until => *order = Confirmed,
            (Act::Release, Nothing | Expired) => *order = Released,
            (Act::Release, Held(_) | Confirmed) => {
                next.available += quantity;
                *order = Released;
            }
            (Act::Sweep, Held(until)) if operation.now >= until => {
                next.available += quantity;
                *order = Expired;
            }
            _ => return None,
        }
        Some(next)
    }

    /// Whether this refusal is right now.
    fn refuses(&self, operation: &Operation, code: &str, available: Option<u64>) -> bool {
        use Order::{Expired, Held, Nothing, Released};
        match (operation.act, self.orders[operation.order], code) {
            (Act::Reserve(wanted, _), Nothing, "insufficient_stock") => {
                self.available < wanted && available == Some(self.available)
            }
            (Act::Confirm, Nothing, "reservation_not_found")
            | (Act::Reserve(..) | Act::Confirm, Released, "reservation_released")
            | (Act::Reserve(..) | Act::Confirm, Expired, "reservation_expired") => true,
            (Act::Reserve(..) | Act::Confirm, Held(until), "reservation_expired") => operation.now >= until,
            _ => false,
        }
    }
}

/// Whether there is an order of one thing at a time that explains what everybody saw.
#[must_use]
pub fn linearizable(available: u64, orders: usize, operations: &[Operation]) -> bool {
    assert!(operations.len() <= 64, "a history is short");
    let shop = Shop { available, orders: vec![Order::Nothing; orders], quantities: vec![0; orders] };
    search(&shop, 0, operations, &mut HashSet::new())
}

fn search(shop: &Shop, done: u64, operations: &[Operation], tried: &mut HashSet<(u64, Shop)>) -> bool {
    let open = || (0..operations.len()).filter(|i| done & (1 << i) == 0).map(|i| (i, &operations[i]));
    if open().all(|(_, operation)| operation.outcome == Outcome::Maybe) {
        return true;
    }
    if !tried.insert((done, shop.clone())) {
        return false;
    }
    // Whatever was answered first must have happened before anything began that was asked after that.
    let first_answer = open().map(|(_, operation)| operation.ended).min().unwrap_or(u64::MAX);
    for (i, operation) in open().filter(|(_, operation)| operation.began <= first_answer) {
        let next = match &operation.outcome {
            Outcome::Done | Outcome::Maybe => shop.done(operation),
            Outcome::Refused(code, available) => {
                shop.refuses(operation, code, *available).then(|| shop.clone())
            }
        };
        if next.is_some_and(|next| search(&next, done | (1 << i), operations, tried)) {
            return true;
        }
        // A first try may have held and its answer was lost; others ended that hold, and the next try was told so.
        let ended = |code: &str| ["reservation_released", "reservation_expired"].contains(&code);
        let may_have_held = matches!(&operation.outcome, Outcome::Refused(code, _) if ended(code));
        let held = shop.done(operation).filter(|next| may_have_held && next != shop);
        if held.is_some_and(|next| search(&next, done, operations, tried)) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It counts by the moment at which it began.
    fn operation(order: usize, act: Act, began: u64, ended: u64, outcome: Outcome) -> Operation {
        Operation { order, act, now: began.cast_signed(), began, ended, outcome }
    }

    fn short(available: u64) -> Outcome {
        Outcome::Refused("insufficient_stock".to_owned(), Some(available))
    }

    #[test]
    fn what_cannot_be_is_found() {
        let two = Act::Reserve(2, 100);
        let sold_twice = [operation(0, two, 0, 1, Outcome::Done), operation(1, two, 2, 3, Outcome::Done)];
        assert!(!linearizable(3, 2, &sold_twice));
        assert!(linearizable(4, 2, &sold_twice));
        let untrue = [operation(0, two, 0, 1, short(1))];
        assert!(!linearizable(3, 1, &untrue));
        let forgotten = [
            operation(0, two, 0, 1, Outcome::Done),
            operation(0, Act::Confirm, 2, 3, Outcome::Refused("reservation_not_found".to_owned(), None)),
        ];
        assert!(!linearizable(3, 1, &forgotten));
    }

    /// Whether a hold is over is judged by the time of each request, so both may be told so in either order.
    #[test]
    fn a_hold_ends_by_the_time_of_who_asks() {
        let over = || Outcome::Refused("reservation_expired".to_owned(), None);
        let reserved = operation(0, Act::Reserve(2, 5), 0, 1, Outcome::Done);
        let late = operation(0, Act::Confirm, 6, 7, Outcome::Done);
        assert!(!linearizable(3, 1, &[reserved.clone(), late.clone()]));
        let began_in_time = Operation { began: 4, now: 4, ended: 9, ..late };
        let told = operation(0, Act::Reserve(2, 5), 6, 7, over());
        assert!(linearizable(3, 1, &[reserved.clone(), told, began_in_time]));
        assert!(!linearizable(3, 1, &[reserved, operation(0, Act::Confirm, 4, 5, over())]));
    }

    #[test]
    fn what_may_have_happened_explains() {
        let two = Act::Reserve(2, 100);
        let operations = [operation(0, two, 0, u64::MAX, Outcome::Maybe), operation(1, two, 2, 3, short(1))];
        assert!(linearizable(3, 2, &operations));
        assert!(!linearizable(5, 2, &operations));
    }
}
