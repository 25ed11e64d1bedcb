//! Takes what the page needs of Swagger UI out of the archive that a crate carries, so that nothing is fetched,
//! here or in the reader's browser.

use std::error::Error;
use std::io::Cursor;
use std::path::Path;
use std::{env, fs};

use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

/// Where the files lie in the archive of the version that is pinned.
const DIST: &str = "swagger-ui-5.17.14/dist";

const FILES: [&str; 3] = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    #[expect(clippy::disallowed_methods, reason = "how cargo tells a build where to write")]
    let folder = env::var("OUT_DIR")?;
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    for file in FILES {
        let mut out = fs::File::create(Path::new(&folder).join(file))?;
        std::io::copy(&mut archive.by_name(&format!("{DIST}/{file}"))?, &mut out)?;
    }
    Ok(())
}
