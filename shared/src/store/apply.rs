//! The loop, once, for every change of a reservation.

use super::commit::Attempt;
use super::error::{StoreError, Transient};
use super::retry::Attempts;
use super::{Invocation, Store};
use crate::domain::{Action, Command, Decision, Heard, Refusal, Reservation, Shortage, decide};
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
    /// Refused, nothing written: these lines could not be served.
    Short(Vec<Shortage>),
    /// Refused, nothing written.
    Refused {
        /// Why.
        refusal: Refusal,
        /// The record as it is, where there is one.
        reservation: Option<Box<Reservation>>,
    },
}

impl Store {
    /// Does what a command says, once, whatever is retried, lost or done by others at the same time.
    ///
    /// Guesses the record (none for what begins one, a temporary hold for a confirm, otherwise it is
    /// read), decides, and commits under the condition that the guess was right. If the record was
    /// another, decides again on what came back.
    ///
    /// # Errors
    /// [`StoreError::TryAgain`] if the outcome is not known or not reached in time; it never stands
    /// for a refusal.
    pub async fn apply(&self, mut command: Command, invocation: &Invocation) -> Result<Outcome, StoreError> {
        let mut attempts = Attempts::new(self.settings.retry, invocation);
        // Whether a confirm without answer may still land: its condition names no version.
        let mut may_land = false;
        let mut seen = match &command.action {
            Action::Reserve { .. } | Action::Hear { heard: Heard::Created(_), .. } => None,
            Action::Confirm => {
                let (attempt, unanswered) = self.confirm_unread(&command, invocation, &mut attempts).await?;
                may_land = unanswered;
                match attempt {
                    Attempt::Committed(reservation) => return Ok(Outcome::Done { reservation, first: true }),
                    Attempt::Changed(Some(there)) => Some(there),
                    // There is no record, or the endpoint does not show what failed the condition.
                    Attempt::Changed(None) | Attempt::Short(_) | Attempt::Failed(_) => {
                        let read = self.reservation(command.target.id(), invocation).await;
                        read.map_err(|e| e.after(may_land))?
                    }
                }
            }
            _ => self.reservation(command.target.id(), invocation).await?,
        };
        // What an earlier try would have written. It may be there whatever was answered: a request may come twice,
        // and the answer be that to its second copy.
        let mut tried: Option<Reservation> = None;
        // Whether that try had no answer, so that it may still land.
        let mut unanswered = false;
        loop {
            let commit = match decide(seen.as_ref(), &command, invocation.now) {
                Decision::Commit(commit) => commit,
                Decision::Unchanged => return unchanged(seen),
                Decision::Refuse(_) if may_land => {
                    return Err(StoreError::TryAgain("refused after a try without answer".to_owned()));
                }
                Decision::Refuse(refusal) => {
                    return Ok(Outcome::Refused { refusal, reservation: seen.map(Box::new) });
                }
            };
            match self.commit(&commit, &command, invocation).await.map_err(|e| e.after(unanswered))? {
                Attempt::Committed(reservation) => return Ok(Outcome::Done { reservation, first: true }),
                Attempt::Changed(Some(there)) if tried.as_ref() == Some(&there) => {
                    // The answer was lost, the write was not.
                    return Ok(Outcome::Done { reservation: there, first: true });
                }
                Attempt::Changed(None) if seen.is_none() => {
                    // There is a record, but the endpoint does not show it.
                    forget_shortages(&mut command);
                    attempts.pause(&Transient::not_applied("an unseen record")).await?;
                    let read = self.reservation(command.target.id(), invocation).await;
                    seen = read.map_err(|e| e.after(unanswered))?;
                }
                Attempt::Changed(there) => {
                    // The record has moved on, so no write under the old guess can land any more.
                    (tried, unanswered) = (None, false);
                    forget_shortages(&mut command);
                    seen = there;
                }
                Attempt::Short(_) if unanswered => {
                    // An earlier try may still land, so a refusal might turn out untrue.
                    return Err(StoreError::TryAgain("short after a try without answer".to_owned()));
                }
                Attempt::Short(shortages) => match &mut command.action {
                    Action::Hear { short, .. } => merge(short, shortages),
                    _ => return Ok(Outcome::Short(shortages)),
                },
                Attempt::Failed(failure) => {
                    unanswered |= failure.maybe_applied;
                    if let Err(out_of_time) = attempts.pause(&failure).await {
                        let maybe_written = Some(commit.next).filter(|_| unanswered);
                        return self.decided_by_reading(maybe_written, invocation, out_of_time).await;
                    }
                    tried = Some(commit.next);
                }
            }
        }
    }

    /// No more tries: what is there tells whether one of them was applied. If not, one may still be.
    async fn decided_by_reading(
        &self,
        maybe_written: Option<Reservation>,
        invocation: &Invocation,
        out_of_time: StoreError,
    ) -> Result<Outcome, StoreError> {
        let Some(written) = maybe_written else { return Err(out_of_time) };
        match self.reservation(written.id, invocation).await {
            Ok(Some(there)) if there == written => Ok(Outcome::Done { reservation: there, first: true }),
            _ => Err(out_of_time),
        }
    }

    /// The first try of a confirm; its guess is a temporary hold that is not due. Answers too whether a try
    /// before the last one had no answer.
    async fn confirm_unread(
        &self,
        command: &Command,
        invocation: &Invocation,
        attempts: &mut Attempts,
    ) -> Result<(Attempt, bool), StoreError> {
        let mut unanswered = false;
        loop {
            match self
                .commit_confirm(command.target.id(), invocation)
                .await
                .map_err(|e| e.after(unanswered))?
            {
                Attempt::Failed(failure) => {
                    unanswered |= failure.maybe_applied;
                    attempts.pause(&failure).await?;
                }
                outcome => return Ok((outcome, unanswered)),
            }
        }
    }
}

fn unchanged(seen: Option<Reservation>) -> Result<Outcome, StoreError> {
    let reservation =
        seen.ok_or_else(|| StoreError::corrupt("a decision", "unchanged, but there is no record"))?;
    Ok(Outcome::Done { reservation, first: false })
}

/// What an order was short of when the record was another is no answer to what is asked now.
fn forget_shortages(command: &mut Command) {
    if let Action::Hear { short, .. } = &mut command.action
        && !planted("shortages-outlive-the-question")
    {
        short.clear();
    }
}

/// Adds what was learned of the stock; the newest figure of a stock unit counts.
fn merge(known: &mut Vec<Shortage>, learned: Vec<Shortage>) {
    known.retain(|k| learned.iter().all(|l| l.unit != k.unit));
    known.extend(learned);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Lack, Location, ProductId, UnitKey};

    #[test]
    fn the_newest_figure_of_each_stock_unit_counts() {
        let short = |product: &str, available| Shortage {
            unit: UnitKey {
                product: ProductId::parse(product).unwrap(),
                location: Location::default(),
                bucket: 0,
            },
            requested: 9,
            lack: Lack::Short { available },
        };
        let mut known = vec![short("A", 5), short("B", 4)];
        merge(&mut known, vec![short("A", 3), short("C", 1)]);
        assert_eq!(known, [short("B", 4), short("A", 3), short("C", 1)]);
    }
}
