//! The runner as a process of its own, ended with the test.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::Api;

/// A running `holdfast`.
pub(crate) struct Runner {
    process: Child,
    pub(crate) api: Api,
    /// What it said at its start.
    pub(crate) greeting: String,
}

impl std::ops::Deref for Runner {
    type Target = Api;
    fn deref(&self) -> &Api {
        &self.api
    }
}

/// The program, with these arguments.
pub(crate) fn holdfast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-under-test"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).kill_on_drop(true);
    command
}

impl Runner {
    /// Starts one on free ports, keeping nothing.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts one on free ports with further arguments.
    pub(crate) async fn with(arguments: &[&str]) -> Self {
        let mut command = holdfast(&["--port", "0", "--aws-port", "0", "--exit-with-stdin"]);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut greeting = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            greeting.push_str(&line);
            greeting.push('\n');
            if line.starts_with("Ctrl-C") {
                break;
            }
        }
        let address = |what: &str| {
            let line = greeting.lines().find(|line| line.contains(what));
            line.and_then(|line| line.split_whitespace().last()).map(str::to_owned)
        };
        let (Some(api), Some(aws)) = (address("HTTP API"), address("AWS endpoint")) else {
            let mut error = String::new();
            process.stderr.take().unwrap().read_to_string(&mut error).await.unwrap();
            panic!("the runner did not come up: {greeting}{error}");
        };
        // What the functions log is read, so that they never wait, and shown where a test fails.
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = log.next_line().await {
                println!("{line}");
            }
        });
        Self { process, api: Api::new(api, aws), greeting }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id().unwrap()
    }

    /// The processes that it has started: id and the function each one is.
    pub(crate) fn functions(&self) -> Vec<(u32, String)> {
        functions_of(self.id())
    }

    /// The processes of one function.
    pub(crate) fn processes(&self, function: &str) -> Vec<(u32, String)> {
        self.functions().into_iter().filter(|(_, name)| name == function).collect()
    }

    /// Ends it at once, without a chance to tidy up.
    pub(crate) async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    /// Asks it to end and waits for its exit code.
    pub(crate) async fn interrupt(mut self) -> Option<i32> {
        signal("INT", self.id()).await;
        self.process.wait().await.unwrap().code()
    }
}

/// The processes whose parent is `parent`, as far as they are functions.
pub(crate) fn functions_of(parent: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end while it is looked at.
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        let Ok(arguments) = std::fs::read_to_string(entry.path().join("cmdline")) else { continue };
        let is_child = status.lines().any(|line| line == format!("PPid:\t{parent}"));
        let arguments: Vec<&str> = arguments.split('\0').collect();
        if let (true, [_, "function", name, ..]) = (is_child, arguments.as_slice()) {
            found.push((id, (*name).to_owned()));
        }
    }
    found
}

/// Whether a process is there and is no zombie.
pub(crate) fn is_alive(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

/// Sends a signal.
pub(crate) async fn signal(name: &str, id: u32) {
    let sent = Command::new("kill").args([format!("-{name}"), id.to_string()]).status().await.unwrap();
    assert!(sent.success(), "signal {name} to {id}");
}
