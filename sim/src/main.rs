//! `cargo run -p sim --profile sim -- --seeds 1000`: runs the service under faults.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use clap::Parser;
use sim::faults::Fired;
use sim::run::{Case, Report, run};
use sim::shrink::shrink;
use sim::threads::spread;
use sim::{histories, matrix};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The whole service on a virtual clock, under faults.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Options {
    /// How many random runs.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed; a fresh one is chosen and printed where it is absent.
    #[arg(long)]
    from: Option<u64>,
    /// Operations of a run.
    #[arg(long, default_value_t = 200)]
    ops: u32,
    /// How many of a thousand requests go wrong; by the seed where it is absent.
    #[arg(long)]
    per_mille: Option<u32>,
    /// How late a late write may be, in milliseconds. Beyond a client's patience a refused write may land.
    #[arg(long, default_value_t = sim::faults::LATE_MS)]
    late_ms: u64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Runs this one.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints what happens in it.
    #[arg(long)]
    trace: bool,
    /// Every operation with every fault, so many times each.
    #[arg(long, value_name = "N")]
    matrix: Option<u64>,
    /// Every crash point.
    #[arg(long)]
    crashes: bool,
    /// Ends with the first run that breaks a rule, and does not make it smaller.
    #[arg(long)]
    first: bool,
    /// Short runs whose histories must be linearizable.
    #[arg(long, value_name = "N")]
    histories: Option<u64>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let fresh = || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(0, |now| u64::from(now.subsec_micros()) * 1_000_000 + now.as_secs() % 1_000_000)
    };
    let from = options.from.unwrap_or_else(fresh);
    let began = Instant::now();
    let good = if let Some(seed) = options.seed {
        run_seed(&options, seed)
    } else if let Some(wanted) = options.matrix {
        println!("seeds from {from}");
        matrix::matrix(wanted, from, options.threads, |_| true)
    } else if options.crashes {
        matrix::crashes(options.threads, |_| true)
    } else if options.first {
        run_until_failure(&options, from)
    } else {
        run_seeds(&options, from)
    };
    println!("took {:.1} s", began.elapsed().as_secs_f64());
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The case of a seed, and how it is run.
fn case_of(options: &Options, seed: u64) -> (Case, fn(&Case) -> Report) {
    let (mut case, run): (Case, fn(&Case) -> Report) = match options.histories {
        Some(_) => (histories::case(seed), histories::check),
        None => (Case::random(seed, options.ops), run),
    };
    case.mix.per_mille = options.per_mille.unwrap_or(case.mix.per_mille);
    case.mix.late_ms = options.late_ms;
    (case, run)
}

fn run_seed(options: &Options, seed: u64) -> bool {
    let (case, run) = case_of(options, seed);
    let report = run(&case);
    if options.trace {
        for line in &report.trace {
            println!("{line}");
        }
    }
    for violation in &report.violations {
        println!("VIOLATION {}: {}", violation.rule, violation.what);
    }
    println!("{} requests, {:?}", report.requests, report.answers);
    report.violations.is_empty()
}

fn run_until_failure(options: &Options, from: u64) -> bool {
    let ended = AtomicBool::new(false);
    let seeds: Vec<u64> = (from..from + options.histories.unwrap_or(options.seeds)).collect();
    let broken = spread(options.threads, &seeds, |seed| {
        if ended.load(Ordering::Relaxed) {
            return None;
        }
        let (case, run) = case_of(options, *seed);
        let violation = run(&case).violations.into_iter().next()?;
        ended.store(true, Ordering::Relaxed);
        Some((*seed, violation))
    });
    let Some((seed, violation)) = broken.into_iter().flatten().next() else {
        println!("no rule was broken in {} runs", seeds.len());
        return true;
    };
    println!("{} after {} runs, seed {seed}: {}", violation.rule, seed - from + 1, violation.what);
    false
}

/// The sum of several runs.
#[derive(Default)]
struct Sum {
    runs: u64,
    ops: usize,
    requests: u64,
    landed_late: u64,
    unjudged: u64,
    fired: Fired,
    answers: BTreeMap<String, u64>,
}

fn run_seeds(options: &Options, from: u64) -> bool {
    let count = options.histories.unwrap_or(options.seeds);
    println!("seeds {from} to {}", from + count - 1);
    let began = Instant::now();
    let seeds: Vec<u64> = (from..from + count).collect();
    let results = spread(options.threads, &seeds, |seed| {
        let (case, run) = case_of(options, *seed);
        let report = run(&case);
        // The rest of it is large.
        let Report { violations, fired, requests, answers, landed_late, judged, .. } = report;
        (
            case.ops.len(),
            Report { violations, fired, requests, answers, landed_late, judged, ..Report::default() },
        )
    });
    let (mut sum, mut failed) = (Sum::default(), Vec::new());
    for (seed, (ops, report)) in seeds.iter().zip(results) {
        sum.runs += 1;
        sum.ops += ops;
        sum.requests += report.requests;
        sum.landed_late += report.landed_late;
        sum.unjudged += u64::from(!report.judged);
        for (what, times) in report.fired {
            *sum.fired.entry(what).or_default() += times;
        }
        for (kind, times) in report.answers {
            *sum.answers.entry(kind).or_default() += times;
        }
        if let Some(violation) = report.violations.into_iter().next() {
            failed.push((*seed, violation));
        }
    }
    print_sum(&sum, began.elapsed().as_secs_f64(), options);
    println!("violations   {} of {} runs", failed.len(), sum.runs);
    for (seed, violation) in &failed {
        println!("  seed {seed}: {}", violation.rule);
    }
    if let Some((seed, violation)) = failed.first() {
        println!("first, seed {seed}: {}: {}", violation.rule, violation.what);
        let (small, report) = shrink(&case_of(options, *seed).0, violation.rule, case_of(options, *seed).1);
        println!("shrunk to {} operations:", small.ops.len());
        for line in report.trace {
            println!("{line}");
        }
    }
    failed.is_empty()
}

#[expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a rate")]
fn print_sum(sum: &Sum, seconds: f64, options: &Options) {
    println!("runs         {} ({:.1} a second)", sum.runs, sum.runs as f64 / seconds);
    println!("operations   {} ({:.0} a second)", sum.ops, sum.ops as f64 / seconds);
    println!("AWS calls    {} ({:.0} a second)", sum.requests, sum.requests as f64 / seconds);
    let mut by_fault: BTreeMap<String, (u64, Vec<String>)> = BTreeMap::new();
    for ((fault, operation), times) in &sum.fired {
        let name = if operation.contains(' ') { operation.clone() } else { fault.name().to_owned() };
        let entry = by_fault.entry(name).or_default();
        entry.0 += times;
        entry.1.push(format!("{operation} {times}"));
    }
    for (fault, (times, operations)) in by_fault {
        println!("{fault:<16} {times:>7}: {}", operations.join(", "));
    }
    for (kind, times) in &sum.answers {
        println!("answered {kind:<32} {times:>7}");
    }
    println!("landed after a refusal that followed silence: {}", sum.landed_late);
    if options.histories.is_some() {
        println!("histories too long to be judged: {}", sum.unjudged);
    }
}
