// SPDX-License-Identifier: Apache-2.0
//! Writes every file that is made from the definitions: `cargo run -p odradek-crds --example generate`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let operator = std::fs::read_to_string(root.join("manifests/operator.yaml"))?;
    for file in odradek_crds::render::files(&operator) {
        let path = root.join(&file.path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, file.content)?;
    }
    Ok(())
}
