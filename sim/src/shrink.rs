//! Makes a failing run small: takes out operations and faults while the same rule stays broken.

use crate::run::{Case, Report};

/// Most runs that are spent on it.
const RUNS: u32 = 400;

/// The smallest case that was found, and its report.
#[must_use]
pub fn shrink(case: &Case, rule: &str, run: fn(&Case) -> Report) -> (Case, Report) {
    let mut small = Small { best: case.clone(), rule, run, runs: 0 };
    for _ in 0..2 {
        small.ops();
        small.faults();
    }
    let report = run(&small.best);
    (small.best, report)
}

struct Small<'a> {
    best: Case,
    rule: &'a str,
    run: fn(&Case) -> Report,
    runs: u32,
}

impl Small<'_> {
    fn still_broken(&mut self, case: &Case) -> bool {
        self.runs += 1;
        self.runs <= RUNS && (self.run)(case).violations.iter().any(|violation| violation.rule == self.rule)
    }

    /// Takes out operations: halves first, single ones last.
    fn ops(&mut self) {
        let mut size = self.best.ops.len().div_ceil(2);
        while size > 0 && self.runs < RUNS {
            let mut begin = 0;
            while begin < self.best.ops.len() {
                let mut without = self.best.clone();
                without.ops.drain(begin..(begin + size).min(self.best.ops.len()));
                if self.still_broken(&without) {
                    self.best = without;
                } else {
                    begin += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    /// Spares requests the fault that happened to them by chance.
    fn faults(&mut self) {
        let mut chances = (self.run)(&self.best).chances;
        let mut size = chances.len();
        while size > 0 && self.runs < RUNS {
            let mut begin = 0;
            while begin < chances.len() {
                let end = (begin + size).min(chances.len());
                let mut without = self.best.clone();
                without.mix.spared.extend(chances[begin..end].iter().cloned());
                if self.still_broken(&without) {
                    self.best = without;
                    chances.drain(begin..end);
                } else {
                    begin += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }
}
