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

# How fast it is here, and what it is compared with; without a name a tour of all
bench *ARGS:
    cargo run --release -p bench -- {{ARGS}}

# The service under faults on a virtual clock: random runs, every fault, every crash point, histories
sim *options:
    cargo run --profile sim -p sim -- {{options}}

sim-all:
    just sim --seeds 300
    just sim --matrix 50
    just sim --crashes
    just sim --histories 1000

# Rewrite the output in the README's tour
readme:
    UPDATE_README=1 cargo test -p tests readme || cargo test -p tests readme

# Known vulnerabilities of what is linked; needs the network
advisories:
    cargo deny check advisories

# The end-to-end suite on this machine's runner
e2e:
    cargo test -p tests e2e::

# The same suite on a second environment: built and deployed by sam to ministack, with IAM enforced
e2e-stack:
    tests/stack/run -- cargo test -p tests e2e::

# Whether the API keeps to openapi.yaml
openapi:
    cargo build
    tests/openapi/run

# The parser of order events and every request body, fuzzed for a while
fuzz SECONDS="60":
    fuzz/run {{SECONDS}}

# Plants bugs one by one and looks whether tests and simulation notice; by name, some of them
mutations *names:
    tests/mutations/run {{names}}

# The functions as they are deployed: size and glibc
binaries:
    .ci/binaries

validate:
    sam validate --lint --region us-east-1
    checkov -f template.yaml --config-file .checkov.yaml
