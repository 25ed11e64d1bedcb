//! Where and of what something was measured.

use std::process::Command;

use serde_json::{Value, json};

use crate::options::Options;

/// What every figure of a run depends on.
#[derive(Debug)]
pub(crate) struct Setting {
    machine: String,
    build: &'static str,
    commit: String,
    seed: u64,
}

impl Setting {
    /// This machine, this program, and the seed of the run.
    pub(crate) fn of(options: &Options) -> Self {
        let build = if cfg!(debug_assertions) { "dev (use --release)" } else { "release" };
        Self { machine: machine(), build, commit: commit(), seed: options.seed }
    }

    /// As JSON.
    pub(crate) fn to_json(&self) -> Value {
        json!({"machine": self.machine, "build": self.build, "commit": self.commit, "seed": self.seed})
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "machine   {}", self.machine)?;
        writeln!(f, "build     {}", self.build)?;
        writeln!(f, "commit    {}", self.commit)?;
        write!(f, "seed      {}", self.seed)
    }
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{cores} cores, {}", model.map_or("unknown processor", |(_, name)| name))
}

/// The commit that is checked out, and whether something was changed since.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        output.ok().filter(|output| output.status.success()).map(|output| output.stdout)
    };
    let Some(hash) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let is_changed = git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty());
    let changed = if is_changed { ", and changes since" } else { "" };
    format!("{}{changed}", String::from_utf8_lossy(&hash).trim())
}
