//! `holdfast`: all of Holdfast on this machine.

fn main() -> std::process::ExitCode {
    local::main()
}
