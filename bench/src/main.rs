//! `cargo run --release -p bench -- NAME`: how fast Holdfast is on this machine. Without a name: a tour of all.
//!
//! What is compared is measured in the same run, on the same database, in turn. So the ratios hold wherever it runs,
//! and the figures only on the machine that is printed with them.
//!
//! - one file for each benchmark: [`operations`], [`overhead`], [`clients`], [`strategies`], [`sweep`], [`events`],
//!   [`start`], [`scale`]. A further one is a file, a [`options::Name`] and an arm in [`measure`]
//! - [`options`]: the command line; [`machine`]: what every figure depends on
//! - [`measure`](mod@measure): times; [`report`]: tables, comparisons, JSON; [`picture`]: the same as SVG
//! - [`runner`]: all of Holdfast as a process; [`embedded`]: tables and handlers in this one; [`raw`]: DynamoDB without
//!   Holdfast; [`model`]: DynamoDB with its latency and its conflicts; [`tls`]: an endpoint by TLS
#![expect(clippy::float_arithmetic, reason = "what is measured is put in relation")]

mod clients;
mod embedded;
mod events;
mod machine;
mod measure;
mod model;
mod operations;
mod options;
mod overhead;
mod picture;
mod raw;
mod report;
mod runner;
mod scale;
mod start;
mod strategies;
mod sweep;
mod tls;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use serde_json::json;
use shared::Error;

use machine::Setting;
use options::{Name, Options};
use report::Findings;

fn main() -> ExitCode {
    // The runner is this program again, and each of its functions is.
    if std::env::args().nth(1).is_some_and(|first| first == "--port" || first == "function") {
        return local::main();
    }
    let options = Options::parse();
    let outcome = tokio::runtime::Runtime::new().map_err(Error::from);
    match outcome.and_then(|runtime| runtime.block_on(run(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), Error> {
    let setting = Setting::of(options);
    let log = log_file()?;
    println!("{setting}\nlog       {}", log.display());
    let mut found = Vec::new();
    for name in options.chosen() {
        println!("\n{}", name.as_str());
        let findings = measure(*name, options, &log).await?;
        print!("{findings}");
        if let Some(folder) = &options.pictures {
            picture::draw(*name, &findings, folder)?;
        }
        found.push(findings.to_json(&name.as_str()));
    }
    if let Some(file) = &options.json {
        let all = json!({"setting": setting.to_json(), "benchmarks": found});
        std::fs::write(file, serde_json::to_string_pretty(&all)?)?;
    }
    Ok(())
}

/// Runs one benchmark. What the processes say that it starts goes into the file `log`.
async fn measure(name: Name, options: &Options, log: &Path) -> Result<Findings, Error> {
    match name {
        Name::Operations => operations::measure(options).await,
        Name::Overhead => overhead::measure(options, log).await,
        Name::Clients => clients::measure(options, log).await,
        Name::Strategies => strategies::measure(options).await,
        Name::Sweep => sweep::measure(options, log).await,
        Name::Events => events::measure(options, log).await,
        Name::Start => start::measure(options, log).await,
        Name::Scale => scale::measure(options).await,
    }
}

/// A new file for what the runner and its functions say.
fn log_file() -> Result<PathBuf, Error> {
    let file = std::env::temp_dir().join(format!("holdfast-bench-{}.log", std::process::id()));
    std::fs::File::create(&file)?;
    Ok(file)
}
