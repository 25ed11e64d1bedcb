//! Whether the modules of each crate can be read one after the other: none needs one that needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::contract::root;

/// The modules that each module of a crate uses, by their paths (`template::scope`; the root is empty).
type Uses = BTreeMap<String, BTreeSet<String>>;

/// The text of each module of a crate.
type Files = BTreeMap<String, String>;

/// The files of a crate by module, without tests. A program that has a library beside it only calls it.
fn files_of(source: &Path) -> Files {
    let mut files = BTreeMap::new();
    let mut folders = vec![source.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(source).unwrap().to_str().unwrap();
            let text = || std::fs::read_to_string(&path).unwrap();
            match name.strip_suffix(".rs").filter(|name| !name.ends_with("tests")) {
                Some("lib") => drop(files.insert(String::new(), text())),
                Some("main") => drop(files.entry(String::new()).or_insert_with(text)),
                Some(module) => {
                    let module = module.strip_suffix("/mod").unwrap_or(module).replace('/', "::");
                    files.insert(module, text());
                }
                None if path.is_dir() => folders.push(path),
                None => {}
            }
        }
    }
    files
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}::{name}") }
}

fn parent(module: &str) -> &str {
    module.rsplit_once("::").map_or("", |(parent, _)| parent)
}

fn children_of<'a>(module: &str, files: &'a Files) -> impl Iterator<Item = &'a String> {
    files.keys().filter(move |child| !child.is_empty() && parent(child) == module)
}

/// The text that follows each place where a path begins with `start`.
fn after<'a>(code: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    let begins = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    code.match_indices(start).filter(move |(at, _)| begins(*at)).map(move |(at, _)| &code[at + start.len()..])
}

/// The modules that a path leads to: one, or one for each name in its braces.
fn targets(from: &str, path: &str, files: &Files) -> BTreeSet<String> {
    if let Some(path) = path.strip_prefix("super::") {
        return targets(parent(from), path, files);
    }
    if let Some(group) = path.strip_prefix('{') {
        let mut depth = 0;
        let ends = |c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth < 0 || (depth == 0 && c == ',')
        };
        let names = group.split_inclusive(ends).take_while(|name| !name.starts_with(';'));
        return names.flat_map(|name| targets(from, name.trim(), files)).collect();
    }
    let name: String = path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let inner = join(from, &name);
    match path[name.len()..].strip_prefix("::") {
        _ if !files.contains_key(&inner) => [from.to_owned()].into(),
        Some(rest) => targets(&inner, rest, files),
        None => [inner].into(),
    }
}

fn uses_of(files: &Files) -> Uses {
    let uses_of_one = |(module, text): (&String, &String)| {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let code: String = code
            .lines()
            .filter(|line| !line.trim().starts_with("//"))
            .flat_map(|line| [line, "\n"])
            .collect();
        let mut used: BTreeSet<String> =
            after(&code, "crate::").flat_map(|p| targets("", p, files)).collect();
        used.extend(after(&code, "super::").flat_map(|path| targets(parent(module), path, files)));
        for child in children_of(module, files) {
            let name = format!("{}::", child.rsplit("::").next().unwrap());
            used.extend(after(&code, &name).flat_map(|path| targets(child, path, files)));
        }
        used.remove(module);
        (module.clone(), used)
    };
    files.iter().map(uses_of_one).collect()
}

/// The modules that lead back to themselves.
fn circle_in(uses: &Uses) -> BTreeSet<String> {
    let reaches_itself = |module: &String| {
        let mut reached = uses[module].clone();
        loop {
            let further: BTreeSet<String> =
                reached.iter().filter_map(|used| uses.get(used)).flatten().cloned().collect();
            let before = reached.len();
            reached.extend(further);
            if reached.len() == before {
                return reached.contains(module);
            }
        }
    };
    uses.keys().filter(|module| reaches_itself(module)).cloned().collect()
}

/// The modules within this one, in the order in which its documentation names them.
fn reading_order<'a>(module: &str, files: &'a Files) -> Vec<&'a String> {
    let text = &files[module];
    let docs = text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join(" ");
    let place = |child: &&String| {
        let name = child.rsplit("::").next().unwrap();
        docs.find(&format!("`{name}`")).unwrap_or_else(|| panic!("{module:?} does not name {name}"))
    };
    let mut children: Vec<_> = children_of(module, files).collect();
    children.sort_by_key(place);
    children
}

fn crates() -> Vec<PathBuf> {
    let functions = std::fs::read_dir(root().join("functions")).unwrap().map(|entry| entry.unwrap().path());
    functions.chain(["local", "sim", "bench"].map(|name| root().join(name))).collect()
}

#[test]
fn no_module_needs_one_that_needs_it() {
    for folder in crates() {
        let files = files_of(&folder.join("src"));
        assert_eq!(circle_in(&uses_of(&files)), BTreeSet::new(), "{}", folder.display());
    }
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let below = ("below", "// crate::above\npub struct Below;");
    let above = ("above", "use crate::below::Below;");
    let found = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(module, text)| ((*module).to_owned(), (*text).to_owned())).collect();
        circle_in(&uses_of(&files)).len()
    };
    assert_eq!(found(&[below, above]), 0);
    for circle in [
        "use crate::above::Above;",
        "use super::{time::{A, B}, above};\nuse std::fmt;",
        "fn f() { crate::above::run() }",
    ] {
        assert_eq!(found(&[("below", circle), above]), 2, "{circle}");
    }
    let inside = ("above::inside", "use super::Above;");
    assert_eq!(found(&[below, ("above", "mod inside;"), inside]), 0);
    assert_eq!(found(&[below, ("above", "mod inside;\nuse inside::Inside;"), inside]), 2);
    assert_eq!(found(&[("below", "#[cfg(test)]\nmod tests { use crate::above::Above; }"), above]), 0);
}

/// Only by their top modules so far, and without the bugs that are planted in what they know.
#[test]
fn shared_is_business_then_storage_then_http() {
    let top = |module: &str| module.split("::").next().unwrap().to_owned();
    let mut uses = Uses::new();
    for (module, used) in uses_of(&files_of(&root().join("shared/src"))) {
        uses.entry(top(&module)).or_default().extend(used.iter().map(|used| top(used)));
    }
    uses.retain(|module, _| module != "planted");
    for (module, used) in &mut uses {
        used.retain(|used| used != module && used != "planted");
    }
    assert_eq!(circle_in(&uses), BTreeSet::new());
    assert!(uses["http"].contains("store") && uses["store"].contains("domain"));
}

/// Where the documentation of a crate, or of a module, says so.
#[test]
fn the_reading_order_is_the_order_of_use() {
    for name in ["local", "sim"] {
        let files = files_of(&root().join(name).join("src"));
        let uses = uses_of(&files);
        for module in files.keys().filter(|module| files[*module].contains("n reading order")) {
            let order = reading_order(module, &files);
            for (i, earlier) in order.iter().enumerate() {
                let is_in =
                    |used: &str, later: &str| used == later || used.starts_with(&format!("{later}::"));
                let within = |used: &&String| order[i + 1..].iter().any(|later| is_in(used, later));
                assert_eq!(uses[*earlier].iter().find(within), None, "{name}: {earlier} comes too early");
            }
        }
    }
}
