//! The fuzz corpora in `testdata/fuzz`.

use std::fs;
use std::path::Path;

/// Calls `target` with each input of the corpus `name`, in the order of the file names.
///
/// # Panics
/// The target panics, or there is no such corpus.
#[track_caller]
pub fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/fuzz").join(name);
    let entries = fs::read_dir(&folder).into_iter().flatten();
    let mut inputs: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "no corpus for {name}");
    for input in inputs {
        // A failed test shows this.
        println!("{}", input.display());
        target(&fs::read(&input).expect("a file that can be read"));
    }
}
