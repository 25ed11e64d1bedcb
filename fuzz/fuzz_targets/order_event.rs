//! The parser of order events: it says yes or why not, and never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &str| {
    if let Err(invalid) = order_events::event::parse(body, None) {
        assert!(!invalid.to_string().is_empty());
    }
});
