//! Virtual time: tokio's paused clock, on a fixed day.

use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;
use shared::domain::Timestamp;
use tokio::time::Instant;

/// When every run begins, in milliseconds: 2026-11-20 10:00 UTC.
const EPOCH_MS: i64 = 1_795_168_800_000;

/// The virtual clock of a run.
#[derive(Debug, Clone, Copy)]
pub struct VirtualTime(Instant);

impl VirtualTime {
    /// Begins now.
    #[must_use]
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    /// Since the beginning.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Milliseconds since the beginning.
    #[must_use]
    pub fn ms(self) -> i64 {
        i64::try_from(self.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// The time by a clock that is off by so many milliseconds.
    #[must_use]
    pub fn shown(self, skew_ms: i64) -> Timestamp {
        Timestamp::from_millisecond(EPOCH_MS + self.ms() + skew_ms).unwrap_or(Timestamp::MAX)
    }
}

impl TimeSource for VirtualTime {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(EPOCH_MS.unsigned_abs()) + self.elapsed()
    }
}
