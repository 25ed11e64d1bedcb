//! The tour of the README is true: every command prints what stands below it, except for times and ids.
//!
//! `UPDATE_README=1 cargo test readme` writes what the commands print into the README.

use std::fmt::Write as _;
use std::path::Path;

use tokio::process::Command;

use crate::support::Runner;

/// Where the README says that the API is.
const API: &str = "http://127.0.0.1:3000";
/// Where the README says that the AWS endpoint is.
const AWS: &str = "http://127.0.0.1:4566";

#[tokio::test]
async fn the_tour_prints_what_it_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&file).unwrap();
    let shop = Runner::start().await;
    let (mut written, mut commands, mut in_tour) = (String::new(), 0, false);
    for line in readme.lines() {
        match line {
            "```console" => in_tour = true,
            "```" => in_tour = false,
            _ => {}
        }
        match line.strip_prefix("$ ").filter(|_| in_tour) {
            Some(command) => {
                let output = run(&with_test_addresses(command, &shop)).await;
                writeln!(written, "{line}").unwrap();
                written.push_str(&output);
                if !output.is_empty() && !output.ends_with('\n') {
                    written.push('\n');
                }
                commands += 1;
            }
            None if in_tour && line != "```console" => {}
            None => writeln!(written, "{line}").unwrap(),
        }
    }
    assert!(commands >= 25, "{commands} commands");
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&file, &written).unwrap();
    }
    let (stands, printed) = (without_times(&readme), without_times(&written));
    for (stands, printed) in stands.lines().zip(printed.lines()) {
        assert_eq!(printed, stands);
    }
    assert_eq!(printed.len(), stands.len());
}

/// The command with the addresses and the program of this test.
fn with_test_addresses(command: &str, shop: &Runner) -> String {
    let port = shop.aws_url.rsplit(':').next().unwrap();
    let mut command = command.replace(API, &shop.url).replace(AWS, &shop.aws_url);
    for subcommand in ["send", "reconcile"] {
        let ours = format!("{} {subcommand} --aws-port {port}", env!("CARGO_BIN_EXE_holdfast-under-test"));
        command = command.replace(&format!("cargo run -q -- {subcommand}"), &ours);
    }
    command
}

async fn run(command: &str) -> String {
    let output = Command::new("bash").args(["-c", command]).output().await.unwrap();
    assert!(output.stderr.is_empty(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The text with what differs from run to run taken out.
fn without_times(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(i) = rest.find("\"correlationId\":\"").map(|i| i + 17).into_iter().chain(time(rest)).min()
    {
        result.push_str(&rest[..i]);
        let length = if Some(i) == time(rest) { TIME.len() } else { rest[i..].find('"').unwrap() };
        result.push('_');
        rest = &rest[i + length..];
    }
    result + rest
}

/// The form of a time; a digit stands for any.
const TIME: &str = "0000-00-00T00:00:00.000Z";

fn time(text: &str) -> Option<usize> {
    let alike = |(a, b): (u8, u8)| if b == b'0' { a.is_ascii_digit() } else { a == b };
    text.as_bytes().windows(TIME.len()).position(|window| window.iter().copied().zip(TIME.bytes()).all(alike))
}
