//! The header `Prefer`, as far as it is honoured. Source: RFC 7240.

/// The preference for an answer before the work is done. Its name has no regard to case, and it has no value.
pub(super) const RESPOND_ASYNC: &str = "respond-async";

/// Whether a header `Prefer` has [`RESPOND_ASYNC`]. Other preferences are ignored, and so are parameters. If a
/// preference is given more than once, the first counts. Repeated headers come as one, joined by commas.
pub(super) fn prefers_async(header: &str) -> bool {
    let mut values = split_unquoted(header, ',').filter_map(|preference| {
        let without_parameters = split_unquoted(preference, ';').next().unwrap_or_default();
        let (name, value) = without_parameters.split_once('=').unwrap_or((without_parameters, ""));
        name.trim().eq_ignore_ascii_case(RESPOND_ASYNC).then(|| value.trim())
    });
    // An empty value is none.
    matches!(values.next(), Some("" | "\"\""))
}

/// The parts of a text between separators. A separator within quotes is a part of the text.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |c: char| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match c {
            '\\' => is_escaped = is_quoted && !was_escaped,
            '"' if !was_escaped => is_quoted = !is_quoted,
            _ => return c == separator && !is_quoted,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preference_is_found_among_others() {
        for header in [
            "respond-async",
            "Respond-Async",
            " RESPOND-ASYNC ",
            "respond-async, wait=10",
            "wait=10,respond-async",
            "handling=lenient; x=1, respond-async",
            "respond-async; foo=bar; baz",
            "respond-async=\"\"",
            "respond-async =",
            ",, respond-async ,",
            "return=minimal, respond-async,respond-async=no",
            "x=\"a, b\", respond-async",
            "x=\"a \\\" , \\\\\", respond-async",
        ] {
            assert!(prefers_async(header), "{header}");
        }
    }

    #[test]
    fn what_is_another_preference_is_none() {
        for header in [
            "",
            ",",
            ";",
            "=",
            "wait=10",
            "return=representation",
            "respond-asynchronously",
            "no-respond-async",
            "respond async",
            "respond-async=no",
            "respond-async=no, respond-async",
            "x=respond-async",
            "x; respond-async",
            "x=\"respond-async\"",
            "x=\"a, respond-async, b\"",
            "x=\"a \\\", respond-async",
            "\u{fc}=respond-async",
        ] {
            assert!(!prefers_async(header), "{header}");
        }
    }
}
