//! Every benchmark runs, in a tiny form, and says something that can be true.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What one benchmark has found.
struct Found(Value);

/// Runs a benchmark in its tiny form; its pictures go into a folder.
fn run(name: &str, pictures: &Path) -> Found {
    let file = pictures.join("found.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command
        .args([name, "--size", "tiny", "--seed", "7", "--json"])
        .arg(&file)
        .arg("--pictures")
        .arg(pictures);
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "it is quiet");
    assert!(
        ["machine", "commit", "seed      7", name].iter().all(|part| printed.contains(part)),
        "{printed}"
    );
    let log = printed.lines().find_map(|line| line.strip_prefix("log")).unwrap();
    std::fs::remove_file(log.trim()).unwrap();
    let mut all: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!((&all["setting"]["seed"], &all["benchmarks"][0]["benchmark"]), (&7.into(), &name.into()));
    let found = Found(all["benchmarks"][0].take());
    found.is_sane();
    found
}

/// The same without pictures.
fn run_alone(name: &str) -> Found {
    run(name, tempfile::tempdir().unwrap().path())
}

impl Found {
    fn rows(&self) -> Vec<&Value> {
        let tables = self.0["tables"].as_array().unwrap();
        tables.iter().flat_map(|table| table["rows"].as_array().unwrap()).collect()
    }

    /// The rows that have this text in this column.
    fn rows_with<'a>(&'a self, column: &str, text: &str) -> Vec<&'a Value> {
        self.rows()
            .into_iter()
            .filter(|row| row[column].as_str().is_some_and(|t| t.starts_with(text)))
            .collect()
    }

    /// Whether a comparison, whose name begins so, holds.
    fn holds(&self, what: &str) -> bool {
        let mut comparisons = self.0["comparisons"].as_array().unwrap().iter();
        let found = comparisons.find(|comparison| comparison["what"].as_str().unwrap().starts_with(what));
        found.unwrap_or_else(|| panic!("no {what} in {}", self.0))["holds"] == true
    }

    /// There is something, nothing is negative, and latencies are in their order.
    fn is_sane(&self) {
        assert!(
            !self.rows().is_empty() && !self.0["comparisons"].as_array().unwrap().is_empty(),
            "{}",
            self.0
        );
        for row in self.rows() {
            let numbers = row.as_object().unwrap().values().filter_map(Value::as_f64);
            assert!(numbers.into_iter().all(|number| number >= 0.0), "{row}");
            if row.get("p50 ms").is_some() {
                let [p50, p95, p99] = ["p50 ms", "p95 ms", "p99 ms"].map(|name| row[name].as_f64().unwrap());
                assert!(row["n"].as_u64() > Some(0) && 0.0 < p50 && p50 <= p95 && p95 <= p99, "{row}");
            }
        }
    }
}

#[test]
fn operations_cost_the_least_that_the_design_allows() {
    let found = run_alone("operations");
    assert!(found.holds("operations above the least"), "{}", found.0);
    assert_eq!(found.rows_with("operation", "reserve, 3 products")[0]["write units"], 8);
    assert_eq!(found.rows_with("operation", "sweep, 40 holds")[0]["writes"], 1);
}

#[test]
fn overhead_is_measured_for_each_layer() {
    assert_eq!(run_alone("overhead").rows_with("way", "").len(), 4);
}

#[test]
fn clients_are_measured_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let found = run("clients", folder.path());
    assert_eq!(found.rows_with("way", "reserve by HTTP").len(), 4);
    // Each client that has begun to order is answered, and takes at least that order.
    assert!(found.rows().iter().all(|row| row["n"].as_u64() >= row["clients"].as_u64()), "{}", found.0);
    let picture = std::fs::read_to_string(folder.path().join("clients.svg")).unwrap();
    assert!(picture.contains("One product: orders a second") && picture.contains("polyline"), "{picture}");
}

#[test]
fn strategies_never_oversell_but_for_the_one_that_may() {
    let folder = tempfile::tempdir().unwrap();
    let found = run("strategies", folder.path());
    assert_eq!(found.rows_with("way", "Holdfast").len(), 4);
    for row in found.rows().into_iter().filter(|row| row["way"] != "unique order alone") {
        assert_eq!(row["oversold"], 0, "{row}");
    }
    for row in found.rows() {
        let [held, sold_out, gave_up] =
            ["held", "sold out", "gave up"].map(|name| row[name].as_u64().unwrap());
        assert_eq!(row["orders"].as_u64().unwrap(), held + sold_out + gave_up, "{row}");
        assert!(held > 0, "{row}");
    }
    let picture = std::fs::read_to_string(folder.path().join("strategies.svg")).unwrap();
    assert!(picture.contains("distributed lock"), "{picture}");
}

#[test]
fn the_sweep_ends_all_that_is_due() {
    assert!(run_alone("sweep").holds("due holds that were ended"));
}

#[test]
fn events_are_heard_and_published() {
    assert_eq!(run_alone("events").rows_with("way", "event")[0]["n"], 5);
}

#[test]
fn a_function_starts_and_answers() {
    let found = run_alone("start");
    assert_eq!(found.rows_with("from start to", "first answer of a function").len(), 1);
    assert!(found.rows().iter().any(|row| row["resident MB"].as_f64() > Some(1.0)), "{}", found.0);
}

#[test]
fn operations_are_measured_in_tables_of_several_sizes() {
    let found = run_alone("scale");
    let sizes: Vec<u64> = found
        .rows_with("operation", "reserve")
        .iter()
        .map(|row| row["products and reservations"].as_u64().unwrap())
        .collect();
    assert_eq!(sizes, [10, 100]);
}

/// Whoever adds a benchmark adds its test here.
#[test]
fn every_benchmark_is_in_the_help_and_has_a_test() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let listed = help.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split_once(':'));
    let tests = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it.rs")).unwrap();
    let sizes = ["tiny", "tour", "full"];
    let names: Vec<&str> = listed.map(|(name, _)| name).filter(|name| !sizes.contains(name)).collect();
    assert!(names.len() >= 8, "{help}");
    for name in names {
        assert!(
            ["run", "run_alone"].iter().any(|run| tests.contains(&format!("{run}(\"{name}\""))),
            "{name}"
        );
    }
}
