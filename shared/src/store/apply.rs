//! Decides, commits, and decides again on what stood in the way, until the outcome is certain: for one command.

use super::error::StoreError;
use super::retry::Attempts;
use super::verdict::PlanOutcome;
use super::{Invocation, Store};
use crate::domain::{
    Command, Decision, Look, Refusal, Reservation, Seen, SeenRecord, StockCommand, StockRefusal, decide,
    decide_stock,
};
use crate::planted;

/// What came of a command. Everything here is certain; what is not known is a [`StoreError`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in an invocation, mostly the large one")]
pub enum Outcome {
    /// It is so.
    Done {
        /// The record as it is now.
        reservation: Reservation,
        /// Whether this command made it so; false where it was so before.
        first: bool,
    },
    /// Refused, nothing written.
    Refused {
        /// Why.
        refusal: Refusal,
        /// The record as it is, where there is one.
        reservation: Option<Box<Reservation>>,
    },
}

/// What came of a stock operation. Everything here is certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StockOutcome {
    /// It is done.
    Done {
        /// The answer of the first time.
        answer: String,
        /// Whether this was the first time.
        first: bool,
    },
    /// It cannot be, and nothing is written.
    Refused(StockRefusal),
}

/// What a command came to, with what was seen when that was decided.
enum Settled<R> {
    /// It is written. The record as it is now, where there is one.
    Written(Option<Box<Reservation>>),
    Unchanged(Seen),
    Refused(R, Seen),
}

/// The outcome of a command that changes nothing.
fn unchanged(seen: Seen) -> Result<Outcome, StoreError> {
    let reservation = seen.into_reservation().ok_or_else(|| no_record("unchanged"))?;
    Ok(Outcome::Done { reservation, first: false })
}

/// The outcome of a command that cannot be.
fn refused(refusal: Refusal, seen: Seen) -> Outcome {
    Outcome::Refused { refusal, reservation: seen.into_reservation().map(Box::new) }
}

fn no_record(what: &str) -> StoreError {
    StoreError::corrupt("a decision", format!("{what}, but there is no record"))
}

impl Store {
    /// Does what a command says, once, whatever is retried, lost or done by others at the same time.
    ///
    /// # Errors
    /// [`StoreError::TryAgain`] if the outcome is not known or not reached in time; it never stands
    /// for a refusal.
    pub async fn apply(&self, command: Command, invocation: &Invocation) -> Result<Outcome, StoreError> {
        self.apply_seen(Seen::default(), &command, invocation).await
    }

    /// Does what a command says that may have been done before: it reads first, so that a repetition does not cancel the
    /// transaction that it would share with others.
    ///
    /// # Errors
    /// As [`Store::apply`].
    pub async fn apply_again(
        &self,
        command: Command,
        invocation: &Invocation,
    ) -> Result<Outcome, StoreError> {
        let mut seen = Seen::default();
        self.look(Look::Record(command.target.id()), &mut seen, invocation).await?;
        self.apply_seen(seen, &command, invocation).await
    }

    async fn apply_seen(
        &self,
        seen: Seen,
        command: &Command,
        invocation: &Invocation,
    ) -> Result<Outcome, StoreError> {
        let decide = |seen: &Seen| decide(seen, command, invocation.now);
        match self.settle(seen, decide, invocation).await? {
            Settled::Written(record) => {
                let reservation = *record.ok_or_else(|| no_record("written"))?;
                Ok(Outcome::Done { reservation, first: true })
            }
            Settled::Unchanged(seen) => unchanged(seen),
            Settled::Refused(refusal, seen) => Ok(refused(refusal, seen)),
        }
    }

    /// What a command comes to by the record as it is now, without writing anything. None: it would be written, or the
    /// stock decides.
    ///
    /// # Errors
    /// As every [`StoreError`].
    pub async fn decided(
        &self,
        command: &Command,
        invocation: &Invocation,
    ) -> Result<Option<Outcome>, StoreError> {
        let seen = Seen::record_alone(self.reservation(command.target.id(), invocation).await?);
        match decide(&seen, command, invocation.now) {
            Decision::Unchanged => unchanged(seen).map(Some),
            Decision::Refuse(refusal) => Ok(Some(refused(refusal, seen))),
            Decision::Plan(_) | Decision::Look(_) => Ok(None),
        }
    }

    /// Does a stock operation, once.
    ///
    /// # Errors
    /// [`StoreError::TryAgain`] if the outcome is not known or not reached in time; with the same
    /// key it is safe to try again.
    pub async fn change_stock(
        &self,
        command: &StockCommand,
        invocation: &Invocation,
    ) -> Result<StockOutcome, StoreError> {
        let decide = |seen: &Seen| decide_stock(seen, command, &invocation.correlation_id, invocation.now);
        Ok(match self.settle(Seen::default(), decide, invocation).await? {
            Settled::Written(_) => StockOutcome::Done { answer: command.answer.clone(), first: true },
            Settled::Unchanged(seen) => {
                let kept = seen.idempotency().map(|kept| kept.answer.clone());
                let none =
                    || StoreError::corrupt("a decision", "unchanged, but nothing is kept under the key");
                StockOutcome::Done { answer: kept.ok_or_else(none)?, first: false }
            }
            Settled::Refused(refusal, _) => StockOutcome::Refused(refusal),
        })
    }

    async fn settle<R>(
        &self,
        mut seen: Seen,
        decide: impl Fn(&Seen) -> Decision<R>,
        invocation: &Invocation,
    ) -> Result<Settled<R>, StoreError> {
        let mut attempts = Attempts::new(self.settings.retry, invocation);
        // Whether a try without an answer may still land although its guard has failed since.
        let mut may_land = false;
        loop {
            let plan = match decide(&seen) {
                Decision::Plan(plan) => *plan,
                Decision::Unchanged => return Ok(Settled::Unchanged(seen)),
                Decision::Refuse(_) if may_land => {
                    return Err(StoreError::TryAgain("refused after a try without answer".to_owned()));
                }
                Decision::Refuse(refusal) => return Ok(Settled::Refused(refusal, seen)),
                Decision::Look(look) => {
                    let looked = self.look(look, &mut seen, invocation).await;
                    looked.map_err(|e| e.into_retryable_if(may_land))?;
                    continue;
                }
            };
            let outcome = match self.settings.combines {
                true => self.commit_combined(plan, invocation).await,
                false => self.commit_one(plan, &mut attempts, invocation).await,
            };
            match outcome.map_err(|e| e.into_retryable_if(may_land))? {
                PlanOutcome::Committed(record) => return Ok(Settled::Written(record)),
                PlanOutcome::Prevented { by, may_land: this_may } => {
                    may_land |= this_may;
                    if *by.record() == SeenRecord::Hidden {
                        attempts
                            .pause_for("an unseen record")
                            .await
                            .map_err(|e| e.into_retryable_if(may_land))?;
                    }
                    // A guess that was wrong is decided at once on what came back. If that fails as well, somebody else
                    // is writing.
                    if seen.has_stock() && by.has_stock() && !planted("an-audit-gives-way-to-nobody") {
                        attempts.pause_for("goods came or left meanwhile").await?;
                    }
                    seen.learn(by);
                }
            }
        }
    }

    /// Reads what a decision must see.
    async fn look(&self, look: Look, seen: &mut Seen, invocation: &Invocation) -> Result<(), StoreError> {
        match look {
            Look::Record(id) => seen.learn_record(self.reservation(id, invocation).await?),
            Look::Stock(unit) => {
                let found = self.stock_unit(&unit, invocation).await?;
                seen.learn_snapshot(unit, found);
            }
        }
        Ok(())
    }
}
