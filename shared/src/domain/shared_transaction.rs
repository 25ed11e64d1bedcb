//! Transactions that several reservations share, and how a movement of stock names them.

use std::fmt;

use super::names::ReservationId;

/// What the reference of a movement begins with that several reservations share.
const PREFIX: &str = "TX#";

/// A transaction that several reservations share. As text it is the reference of its movements: `TX#<id>#<reservations>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedTransaction {
    /// Its id: 32 hexadecimal digits.
    pub id: String,
    /// How many reservations it wrote.
    pub reservations: u64,
}

impl fmt::Display for SharedTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}#{}", self.id, self.reservations)
    }
}

impl SharedTransaction {
    /// Reads the reference of a movement. None if it names one reservation, or an idempotency key.
    #[must_use]
    pub fn parse(reference: &str) -> Option<Self> {
        let (id, reservations) = reference.strip_prefix(PREFIX)?.split_once('#')?;
        let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then_some(Self { id: id.to_owned(), reservations: reservations.parse().ok()? })
    }
}

/// That a shared transaction wrote a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedWrite {
    /// The transaction's id.
    pub transaction: String,
    /// Which of its reservations, from 0.
    pub place: u64,
    /// The reservation.
    pub reservation: ReservationId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_as_it_is_written() {
        let shared = SharedTransaction { id: "0123456789abcdef".repeat(2), reservations: 40 };
        assert_eq!(shared.to_string(), "TX#0123456789abcdef0123456789abcdef#40");
        assert_eq!(SharedTransaction::parse(&shared.to_string()), Some(shared));
        for other in ["", "TX#", "TX#12#2", "3fb0a6a2-0000-5000-8000-000000000000", "order-7 count"] {
            assert_eq!(SharedTransaction::parse(other), None, "{other}");
        }
    }
}
