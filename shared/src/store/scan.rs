//! What the reconciliation reads: every open allocation. The only scan there is; it runs by hand.

use std::collections::BTreeMap;

use super::error::StoreError;
use super::keys::RESERVATION;
use super::record::parse_reservation;
use super::retry::until_answered;
use super::{Invocation, Store};
use crate::domain::{Reservation, UnitKey};

/// What reservations hold, by stock unit, and the reservations.
#[derive(Debug, Default)]
pub struct Allocated {
    /// The sum of the open allocations on each stock unit.
    pub held: BTreeMap<UnitKey, u64>,
    /// Every reservation there is.
    pub reservations: Vec<Reservation>,
}

impl Store {
    /// Reads every reservation.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn allocated(&self, invocation: &Invocation) -> Result<Allocated, StoreError> {
        let mut all = Allocated::default();
        let mut start = None;
        loop {
            let page = until_answered!(
                self,
                invocation,
                self.client
                    .scan()
                    .table_name(&self.settings.inventory_table)
                    .filter_expression("begins_with(pk, :reservation)")
                    .expression_attribute_values(":reservation", super::commit::text(RESERVATION))
                    .consistent_read(true)
                    .set_exclusive_start_key(start.clone())
            );
            for item in page.items.unwrap_or_default() {
                let reservation = parse_reservation(item)?;
                for line in &reservation.lines {
                    for allocation in &line.allocations {
                        *all.held.entry(line.key.unit(allocation.bucket)).or_default() += allocation.quantity;
                    }
                }
                all.reservations.push(reservation);
            }
            start = page.last_evaluated_key;
            if start.is_none() {
                return Ok(all);
            }
        }
    }
}
