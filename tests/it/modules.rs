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

/// A module's code: without comments and tests.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap();
    code.lines().filter(|line| !line.trim().starts_with("//")).flat_map(|line| [line, "\n"]).collect()
}

/// The paths that a `use` brings names from: one for each name in its braces.
fn paths_of(tree: &str) -> Vec<String> {
    let Some((start, group)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let (mut depth, mut begin, mut paths) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let inner = paths_of(&group[begin..at]).into_iter().filter(|path| !path.is_empty());
                paths.extend(inner.map(|path| format!("{}{path}", start.trim())));
                begin = at + 1;
            }
            _ => {}
        }
    }
    paths
}

/// The modules that a name comes from which this module only brings in or passes on.
fn origins(module: &str, name: &str, files: &Files) -> Option<BTreeSet<String>> {
    let code = code_of(files.get(module)?);
    let mut paths = after(&code, "use ").flat_map(|tree| paths_of(tree.split(';').next().unwrap()));
    let brings = |path: &String| path.rsplit([':', ' ']).next() == Some(name);
    let path = paths.find(brings)?;
    let path = path.split(" as ").next().unwrap();
    match path.split_once("::")? {
        ("crate", path) => Some(targets("", path, files)),
        ("super", path) => Some(targets(parent(module), path, files)),
        (first, _) if files.contains_key(&join(module, first)) => Some(targets(module, path, files)),
        _ => None,
    }
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
        _ if !files.contains_key(&inner) => {
            origins(from, &name, files).unwrap_or_else(|| [from.to_owned()].into())
        }
        Some(rest) => targets(&inner, rest, files),
        None => [inner].into(),
    }
}

fn uses_of(files: &Files) -> Uses {
    let uses_of_one = |(module, text): (&String, &String)| {
        let code = code_of(text);
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

/// The modules of one folder and what they use of each other. A module and all that lies within it count as one.
fn uses_within(folder: &str, uses: &Uses, files: &Files) -> Uses {
    let member_of = |module: &str| {
        let rest =
            if folder.is_empty() { module } else { module.strip_prefix(folder)?.strip_prefix("::")? };
        rest.split("::").next().filter(|name| !name.is_empty()).map(|name| join(folder, name))
    };
    let mut within: Uses = children_of(folder, files).map(|child| (child.clone(), BTreeSet::new())).collect();
    for (module, used) in uses {
        let Some(member) = member_of(module) else { continue };
        let used = used.iter().filter_map(|used| member_of(used)).filter(|used| *used != member);
        within.entry(member.clone()).or_default().extend(used.collect::<Vec<_>>());
    }
    within
}

/// The methods in the `impl Store` of a module, and those that they call on themselves.
fn store_methods(text: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let code = code_of(text);
    let blocks = after(&code, "impl Store {").map(|block| block.split("\n}\n").next().unwrap());
    let (mut has, mut calls) = (BTreeSet::new(), BTreeSet::new());
    let name =
        |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    for block in blocks {
        let is_method = |text: &&str| text.split(')').next().is_some_and(|start| start.contains("&self"));
        has.extend(after(block, "fn ").filter(is_method).map(name));
        calls.extend(after(block, "self").filter_map(|rest| rest.trim_start().strip_prefix('.')).map(name));
    }
    (has, calls)
}

/// The circles in each folder of a crate, by the folder.
fn circles_by_folder(uses: &Uses, files: &Files) -> BTreeMap<String, BTreeSet<String>> {
    let circle = |folder: &String| (folder.clone(), circle_in(&uses_within(folder, uses, files)));
    files.keys().map(circle).filter(|(_, circle)| !circle.is_empty()).collect()
}

/// What each module of `shared` uses. Where one has a method of `Store` that another calls, that is a use as well:
/// the methods lie in several files and meet through `super::Store`, which names none of them.
fn uses_of_shared(files: &Files) -> Uses {
    let mut uses = uses_of(files);
    let methods: BTreeMap<_, _> =
        children_of("store", files).map(|module| (module, store_methods(&files[module]))).collect();
    for (module, (own, calls)) in &methods {
        let has_called =
            |(_, (has, _)): &(&&String, &(BTreeSet<String>, _))| !has.is_disjoint(&(calls - own));
        let used = methods.iter().filter(has_called).map(|(used, _)| (*used).clone());
        uses.get_mut(*module).unwrap().extend(used.collect::<Vec<_>>());
    }
    uses
}

/// In each folder, also `domain`, `store`, `http` and `publishing`: its modules can be read one after the other, each
/// with all that lies within it. This allows one circle: a module and those within it may name each other, so `super::`
/// brings what the folder shares (`Store`, `Timestamp`, the steps in `decide/mod.rs`). It hides none: a name that the
/// folder only passes on counts as used where it comes from. Left out are the bugs that are planted in what they know.
#[test]
fn shared_is_business_then_storage_then_http() {
    let files = files_of(&root().join("shared/src"));
    let mut uses = uses_of_shared(&files);
    for (module, used) in &mut uses {
        used.retain(|used| module.starts_with("planted") || !used.starts_with("planted"));
    }
    uses.get_mut("planted::decisions").unwrap().clear();
    assert_eq!(circles_by_folder(&uses, &files), BTreeMap::new());
    let tops = uses_within("", &uses, &files);
    assert!(tops["http"].contains("store") && tops["store"].contains("domain"));
    let store = uses_within("store", &uses, &files);
    assert!(
        store["store::sweep"].contains("store::executor") && store["store::executor"].contains("store::read")
    );
}

#[test]
fn a_circle_in_a_folder_is_found_however_it_is_written() {
    let circles = |files: &[(&str, &str)]| {
        let folder =
            [("", "mod a;"), ("store", "mod x;\nmod y;\npub use x::{X, Z as W};\npub struct Store;")];
        let files = folder.iter().chain(files);
        let files = files.map(|(module, text)| ((*module).to_owned(), (*text).to_owned())).collect();
        circles_by_folder(&uses_of_shared(&files), &files).into_keys().collect::<Vec<_>>()
    };
    let method = |name: &str, calls: &str| {
        format!(
            "use super::Store;\nimpl Store {{\n    async fn {name}(\n        &self) {{ self\n.{calls}() }}\n}}\n"
        )
    };
    let (x, calls_y) = ("use super::y::Y;", method("from_x", "from_y"));
    assert_eq!(circles(&[("store::x", x), ("store::y", "use super::Store;")]), [""; 0]);
    assert_eq!(circles(&[("store::x", &calls_y), ("store::y", &method("from_y", "other"))]), [""; 0]);
    for y in
        ["use crate::store::x::X;", "use super::{Store, X};", "use super::W;", "fn f() { super::X::new() }"]
    {
        assert_eq!(circles(&[("store::x", x), ("store::y", y)]), ["store"], "{y}");
    }
    assert_eq!(circles(&[("store::x", &calls_y), ("store::y", &method("from_y", "from_x"))]), ["store"]);
    let deep = [
        ("store::x", "mod deep;"),
        ("store::x::deep", "use crate::store::y::Y;"),
        ("store::y", "use super::x::X;"),
    ];
    assert_eq!(circles(&deep), ["store"], "through a module within");
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
