# The daily commands.

# All of it on this machine
run *ARGS:
    cargo run -- {{ARGS}}

test:
    cargo test --workspace

# What CI runs
ci:
    .ci/run

lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

fmt:
    cargo fmt --all

bench:
    cargo run --release -p bench

# Rewrite the output in the README's tour
readme:
    UPDATE_README=1 cargo test -p tests readme || cargo test -p tests readme

# Known vulnerabilities of what is linked; needs the network
advisories:
    cargo deny check advisories

validate:
    sam validate --lint --region us-east-1
