//! The fault matrix and the crash points.

use crate::ends::without_versions;
use crate::faults::{Fault, source};
use crate::history::Violation;
use crate::run::run;
use crate::scenes::{SCENES, Scene};
use crate::threads::spread;

/// How many seeds are tried for each that is wanted, because a fault may not fire.
const TRIES: u64 = 6;

/// One cell of the matrix.
#[derive(Debug, Default)]
pub struct Cell {
    /// Runs in which the fault fired.
    pub fired: u64,
    /// Runs of those in which everything held.
    pub survived: u64,
    /// Runs in which it did not fire; they say nothing.
    pub idle: u64,
    /// The rule that was broken first, with the seed.
    pub broken: Option<(u64, Violation)>,
}

impl Cell {
    fn of(scene: &Scene, fault: Fault, wanted: u64, base: u64) -> Self {
        let mut cell = Self::default();
        for seed in base..base + wanted * TRIES {
            if cell.fired == wanted {
                break;
            }
            let mut rng = source(seed, scene.name, 0);
            let rare = !fault.applies_to("GetItem", false) && fault != Fault::Stale;
            let nth = if rare { rng.u32(0..2) } else { rng.u32(0..scene.depth.unwrap_or(1)) };
            let nth = if cell.idle > cell.fired { 0 } else { nth };
            let lasting =
                matches!(fault, Fault::Hang | Fault::Drop | Fault::Throttle | Fault::Conflict | Fault::Stale)
                    && rng.bool();
            let report = run(&scene.with(seed, true, nth, fault, lasting));
            let fired = report
                .fired
                .iter()
                .any(|((f, operation), times)| *f == fault && *times > 0 && !operation.contains(' '));
            if !fired {
                cell.idle += 1;
                continue;
            }
            cell.fired += 1;
            match report.violations.into_iter().next() {
                None => cell.survived += 1,
                Some(violation) => cell.broken = cell.broken.or(Some((seed, violation))),
            }
        }
        cell
    }
}

/// Every operation with every fault. Prints the table; answers whether everything held and no cell that
/// could be filled is empty.
#[must_use]
pub fn matrix(wanted: u64, base: u64, threads: usize, rows: fn(&Scene) -> bool) -> bool {
    let cells: Vec<(&Scene, Fault)> = SCENES
        .iter()
        .filter(|scene| scene.depth.is_some() && rows(scene))
        .flat_map(|scene| Fault::ALL.into_iter().map(move |fault| (scene, fault)))
        .collect();
    let results = spread(threads, &cells, |(scene, fault)| {
        scene.takes(*fault).map(|()| Cell::of(scene, *fault, wanted, base))
    });
    print!("{:<15}", "");
    for fault in Fault::ALL {
        print!("{:>12}", fault.name());
    }
    let (mut good, mut runs, mut idle) = (true, 0, 0);
    let mut notes = Vec::new();
    for ((scene, fault), result) in cells.iter().zip(&results) {
        if *fault == Fault::ALL[0] {
            print!("\n{:<15}", scene.name);
        }
        match result {
            Err(_) => print!("{:>12}", "n/a"),
            Ok(cell) => {
                print!("{:>12}", format!("{}/{}", cell.survived, cell.fired));
                (runs, idle) = (runs + cell.fired, idle + cell.idle);
                good &= cell.fired == wanted && cell.survived == cell.fired;
                if let Some((seed, violation)) = &cell.broken {
                    notes.push(format!("{} {} seed {seed}: {violation:?}", scene.name, fault.name()));
                }
            }
        }
    }
    println!("\nsurvived/fired; n/a:");
    for fault in Fault::ALL {
        let of_fault = cells.iter().zip(&results).filter(|((_, f), _)| *f == fault);
        let reasons: Vec<String> = of_fault
            .filter_map(|((scene, _), result)| {
                result.as_ref().err().map(|why| format!("{} {why}", scene.name))
            })
            .collect();
        if !reasons.is_empty() {
            println!("  {}: {}", fault.name(), reasons.join(", "));
        }
    }
    for note in notes {
        println!("BROKEN {note}");
    }
    println!("{runs} runs in which a fault fired, {idle} in which it did not and which do not count");
    good
}

/// Every handler, killed before and after each of its AWS calls. Prints what there was; answers whether all
/// ended as without the crash.
#[must_use]
pub fn crashes(threads: usize, rows: fn(&Scene) -> bool) -> bool {
    let mut points = Vec::new();
    for scene in SCENES.iter().filter(|scene| rows(scene)) {
        let without = run(&scene.case(1, false));
        let calls = without.calls.get(scene.label()).copied().unwrap_or(0);
        if !without.violations.is_empty() || calls == 0 {
            println!("BROKEN {} without a crash, {calls} calls: {:?}", scene.name, without.violations);
            return false;
        }
        println!("{:<24}{calls:>4} calls", scene.name);
        let end = std::sync::Arc::new(without.end);
        for k in 0..calls {
            for fault in [Fault::KillBefore, Fault::KillAfter] {
                points.push((scene, k, fault, std::sync::Arc::clone(&end)));
            }
        }
    }
    let results = spread(threads, &points, |(scene, k, fault, end)| {
        let report = run(&scene.with(1, false, *k, *fault, false));
        if report.fired.keys().all(|(fired, _)| fired != fault) {
            return Some("it was not killed".to_owned());
        }
        if let Some(violation) = report.violations.first() {
            return Some(format!("{violation:?}"));
        }
        // What is extended again ends later, and has one version more.
        let same = if scene.name == "extend" {
            without_versions(&report.end) == without_versions(end)
        } else {
            report.end == **end
        };
        let differ = |a: &[String], b: &[String]| {
            a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>()
        };
        (!same).then(|| format!("{:?} instead of {:?}", differ(&report.end, end), differ(end, &report.end)))
    });
    let mut passed = 0;
    for ((scene, k, fault, _), result) in points.iter().zip(results) {
        match result {
            None => passed += 1,
            Some(what) => println!("BROKEN {} {} call {k}: {what}", scene.name, fault.name()),
        }
    }
    println!("{passed} of {} crash points passed", points.len());
    passed == points.len()
}
