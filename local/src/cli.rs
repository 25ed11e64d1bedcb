//! The options and commands of `holdfast`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::client;
use crate::lambda::Concurrency;
use crate::redrive::{self, Deployment};
use crate::run::{self, Options};

/// How long a token from `token` is valid, in hours, unless said otherwise.
const TOKEN_HOURS: u16 = 8;

/// Longest wait for what still runs when it ends.
const SHUTDOWN: Duration = Duration::from_millis(500);

/// All of Holdfast on this machine, as template.yaml declares it.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Port of the HTTP API; 0 for any
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Port of the AWS endpoint; 0 for any
    #[arg(long, default_value_t = 4566)]
    aws_port: u16,
    /// Keep all data in this folder, over restarts and crashes
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Ask callers for tokens, as in production
    #[arg(long)]
    auth: bool,
    /// The template [default: the nearest template.yaml upwards from here]
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Set a parameter of the template; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_parameter)]
    parameter: Vec<(String, String)>,
    /// Most processes of one function, and requests at once in each, such as 1x16; a number alone: one request in each
    #[arg(long, value_name = "PROCESSES[xREQUESTS]", default_value = "2x4")]
    concurrency: Concurrency,
    /// Let the sweep's schedule fire this often instead of every minute, such as 5s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    sweep_every: Option<Duration>,
    /// Let queues deliver out of order and some messages twice, on purpose
    #[arg(long)]
    unruly: bool,
    /// End when standard input does
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a token for a runner that was started with --auth
    Token {
        /// A role that the token has; may be given several times
        #[arg(long, required = true, ignore_case = true, value_parser = crate::auth::ROLES)]
        role: Vec<String>,
        /// How long it is valid
        #[arg(long, default_value_t = TOKEN_HOURS)]
        hours: u16,
        /// The data folder of that runner, if it has one
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Send an order event to a running holdfast
    Send {
        /// The event, as JSON
        event: String,
        /// Port of its AWS endpoint
        #[arg(long, default_value_t = 4566)]
        aws_port: u16,
    },
    /// Look whether everything adds up in a running holdfast, and make levels of stock anew
    Reconcile {
        /// One product [default: all]
        #[arg(long)]
        product: Option<String>,
        /// Fill gaps of the ledger, and publish the state of what may have been missed
        #[arg(long)]
        republish: bool,
        /// With --republish: of all reservations that were written in so many hours
        #[arg(long, value_name = "HOURS", requires = "republish")]
        since_hours: Option<u32>,
        /// Port of its AWS endpoint
        #[arg(long, default_value_t = 4566)]
        aws_port: u16,
    },
    /// Give the publisher the records again that were given up
    Redrive {
        /// Objects of the bucket of failures, messages of the publisher's dead-letter queue, or folders of them
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The publisher of this stack on AWS, called by the AWS CLI [default: that of a running holdfast]
        #[arg(long, conflicts_with = "aws_port")]
        stack: Option<String>,
        /// Port of its AWS endpoint
        #[arg(long, default_value_t = 4566)]
        aws_port: u16,
    },
    /// Be a function: what the runner starts itself as
    #[command(hide = true)]
    Function {
        /// Which
        name: String,
        /// End when standard input does
        #[arg(long)]
        exit_with_stdin: bool,
    },
}

/// Seconds, minutes or milliseconds: `5s`, `2m`, `500ms`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 =
        number.parse().map_err(|_| "expected a number with s, m or ms, such as 5s".to_owned())?;
    match (number, unit) {
        (1.., "s") => Ok(Duration::from_secs(number)),
        (1.., "m") => Ok(Duration::from_secs(number * 60)),
        (1.., "ms") => Ok(Duration::from_millis(number)),
        _ => Err("expected a number with s, m or ms, such as 5s".to_owned()),
    }
}

fn parse_parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse() {
        Cli { command: Some(Command::Function { name, exit_with_stdin }), .. } => {
            run_function(&name, exit_with_stdin)
        }
        Cli { command: Some(Command::Token { role, hours, data }), .. } => print_token(&role, hours, data),
        Cli { command: Some(Command::Send { event, aws_port }), .. } => client::send_event(&event, aws_port),
        Cli { command: Some(Command::Reconcile { product, republish, since_hours, aws_port }), .. } => {
            let asked = json!({"productId": product, "republish": republish, "sinceHours": since_hours});
            client::reconcile(&asked, aws_port)
        }
        Cli { command: Some(Command::Redrive { files, stack, aws_port }), .. } => {
            redrive::redrive(&files, &stack.map_or(Deployment::Runner(aws_port), Deployment::Stack))
        }
        Cli { command: None, run } => run_everything(run),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("holdfast: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run_everything(args: RunArgs) -> Result<(), String> {
    let options = Options {
        template: args.template,
        parameters: args.parameter.into_iter().collect::<BTreeMap<_, _>>(),
        port: args.port,
        aws_port: args.aws_port,
        data: args.data,
        auth: args.auth,
        concurrency: args.concurrency,
        sweep_every: args.sweep_every,
        unruly: args.unruly,
        exit_with_stdin: args.exit_with_stdin,
    };
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    let outcome = runtime.block_on(run::run(&options));
    // Ends every process that was started; a thread that still reads standard input is not waited for long.
    runtime.shutdown_timeout(SHUTDOWN);
    outcome
}

fn print_token(roles: &[String], hours: u16, data: Option<PathBuf>) -> Result<(), String> {
    let roles: Vec<String> = roles.iter().map(|role| role.to_uppercase()).collect();
    let token = run::open_issuer(data.as_deref())?.token(&roles, i64::from(hours) * 3_600)?;
    println!("{token}");
    Ok(())
}

/// The same `main` as on AWS. One that works on several invocations at once asks for the next one for ever, whether the
/// Runtime API is there or not; so the end of standard input tells it that the runner is gone.
fn run_function(name: &str, exit_with_stdin: bool) -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = function(name) => outcome.map_err(|e| format!("function {name}: {e}")),
            () = run::wait_for_end_of_stdin(), if exit_with_stdin => Ok(()),
        }
    });
    // A thread that still reads standard input is not waited for.
    runtime.shutdown_background();
    outcome
}

async fn function(name: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match name {
        "reserve" => reserve::run().await,
        "release" => release::run().await,
        "settle" => settle::run().await,
        "check" => check::run().await,
        "docs" => docs::run().await,
        "stock-admin" => stock_admin::run().await,
        "order-events" => order_events::run().await,
        "expiry-sweep" => expiry_sweep::run().await,
        "publisher" => publisher::run().await,
        "reconcile" => reconcile::run().await,
        other => Err(format!("there is no function {other}").into()),
    }
}
