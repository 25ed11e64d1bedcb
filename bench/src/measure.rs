//! Times that were measured, and what is said of them.
#![expect(clippy::float_arithmetic, reason = "means, ratios and rates are fractions")]

use std::time::{Duration, Instant};

/// The times that one thing took, in ascending order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    /// How many times there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that so many percent of all do not exceed (nearest rank); zero if there are none.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    /// The mean; zero if there are none.
    pub(crate) fn mean(&self) -> Duration {
        let count = u32::try_from(self.0.len().max(1)).unwrap_or(u32::MAX);
        self.0.iter().sum::<Duration>() / count
    }

    /// The median of this in relation to the median of another; zero if the other took no time.
    pub(crate) fn ratio_to(&self, other: &Self) -> f64 {
        ratio(self.percentile(50).as_secs_f64(), other.percentile(50).as_secs_f64())
    }
}

impl FromIterator<Duration> for Sample {
    fn from_iter<T: IntoIterator<Item = Duration>>(times: T) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort();
        Self(times)
    }
}

/// What work answered, and how long it took.
pub(crate) async fn time<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    let answer = work.await;
    (answer, began.elapsed())
}

/// One number in relation to another; zero if that is zero.
pub(crate) fn ratio(of: f64, to: f64) -> f64 {
    if to == 0.0 { 0.0 } else { of / to }
}

/// So many in this time, by the second.
pub(crate) fn rate(count: usize, time: Duration) -> f64 {
    ratio(count as f64, time.as_secs_f64())
}

/// A time in milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let sample: Sample = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!([50, 95, 99, 100].map(|p| sample.percentile(p).as_millis()), [50, 95, 99, 100]);
        assert_eq!(sample.mean(), Duration::from_micros(50_500));
        let one: Sample = [Duration::from_millis(7)].into_iter().collect();
        assert_eq!([1, 50, 99].map(|p| one.percentile(p).as_millis()), [7, 7, 7]);
        assert_eq!((Sample::default().percentile(99), Sample::default().mean()), Default::default());
    }
}
