//! The runner as a process of its own, ended with the test.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::Api;

/// Where runners keep the key that signs tokens, in place of the user's own folder.
pub(crate) const STATE: &str = env!("CARGO_TARGET_TMPDIR");

/// A running `holdfast`.
pub(crate) struct Runner {
    process: Child,
    pub(crate) api: Api,
    /// The text that it printed when it started.
    pub(crate) greeting: String,
    log: Arc<Mutex<Vec<String>>>,
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
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env("XDG_STATE_HOME", STATE);
    command.stdin(Stdio::null()).kill_on_drop(true);
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
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                println!("{line}");
                kept.lock().unwrap().push(line);
            }
        });
        Self { process, api: Api::new(api, aws), greeting, log }
    }

    /// The lines that the functions have logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
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
    let children = processes().into_iter().filter(|(_, above)| *above == parent);
    let function = |id: u32| match proc_entries(id, "cmdline").as_slice() {
        [_, verb, name, ..] if verb == "function" => Some((id, name.clone())),
        _ => None,
    };
    children.filter_map(|(id, _)| function(id)).collect()
}

/// The processes below a process, and itself.
pub(crate) fn descendants(of: u32) -> Vec<u32> {
    let all = processes();
    let mut found = vec![of];
    let mut i = 0;
    while i < found.len() {
        let above = found[i];
        found.extend(all.iter().filter(|(_, parent)| *parent == above).map(|(id, _)| *id));
        i += 1;
    }
    found
}

/// All processes, each with its parent.
fn processes() -> Vec<(u32, u32)> {
    let with_parent = |entry: std::fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        // A process may end while it is looked at.
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")?.parse().ok())?;
        Some((id, parent))
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(with_parent).collect()
}

/// The arguments or the environment of a process; nothing where it has ended.
pub(crate) fn proc_entries(id: u32, file: &str) -> Vec<String> {
    let all = std::fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&all).split('\0').map(str::to_owned).collect()
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
