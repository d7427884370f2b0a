//! The files of a torrent as a tree.

use super::style::Charset;
use super::{Style, clean, size};

/// A file in the tree.
pub(crate) struct TreeFile<'a> {
    /// The folders, then the file, joined by `/`.
    pub(crate) path: &'a str,
    /// In bytes.
    pub(crate) length: u64,
    /// The text after the size, for example the number for `--files`.
    pub(crate) note: String,
}

/// The branches in front of a name.
struct Branches {
    middle: &'static str,
    last: &'static str,
    /// In front of the entries of a folder that is not the last.
    below: &'static str,
}

const UNICODE: Branches = Branches { middle: "├── ", last: "└── ", below: "│   " };
const ASCII: Branches = Branches { middle: "|-- ", last: "`-- ", below: "|   " };

/// The most columns for names before the sizes. A longer name moves its size to the right.
const MAX_NAME_WIDTH: usize = 72;

enum Node<'a> {
    Folder { name: &'a str, children: Vec<Node<'a>> },
    File { name: &'a str, length: u64, note: String },
}

/// Draws `root` and below it every file, in their order.
pub(crate) fn file_tree<'a>(
    root: &str,
    files: impl Iterator<Item = TreeFile<'a>>,
    style: Style,
) -> String {
    let mut nodes = Vec::new();
    for file in files {
        insert(&mut nodes, file);
    }
    let mut lines = Vec::new();
    let branches = match style.charset() {
        Charset::Unicode => &UNICODE,
        Charset::Ascii => &ASCII,
    };
    render(&nodes, branches, "", &mut lines);
    let width =
        lines.iter().map(|line| line.0.chars().count()).max().unwrap_or(0).min(MAX_NAME_WIDTH);
    let mut text = format!("{}\n", style.bold(format!("{}/", clean(root))));
    for (name, rest) in lines {
        text += &name;
        if !rest.is_empty() {
            let gap = width.saturating_sub(name.chars().count()) + 2;
            text.extend(std::iter::repeat_n(' ', gap));
            text += &rest;
        }
        text.push('\n');
    }
    text
}

/// Adds a file to the last folder if it belongs there, else to a new folder. Files are usually
/// sorted by folder. If not, a folder is shown twice, which keeps the time linear.
fn insert<'a>(nodes: &mut Vec<Node<'a>>, file: TreeFile<'a>) {
    let mut nodes = nodes;
    let (folders, name) = match file.path.rsplit_once('/') {
        Some((folders, name)) => (Some(folders), name),
        None => (None, file.path),
    };
    for folder in folders.into_iter().flat_map(|folders| folders.split('/')) {
        let last_is_it = matches!(nodes.last(), Some(Node::Folder { name, .. }) if *name == folder);
        if !last_is_it {
            nodes.push(Node::Folder { name: folder, children: Vec::new() });
        }
        let Some(Node::Folder { children, .. }) = nodes.last_mut() else { return };
        nodes = children;
    }
    nodes.push(Node::File { name, length: file.length, note: file.note });
}

/// Draws the nodes. May recurse, because paths have at most 100 elements.
fn render(
    nodes: &[Node<'_>],
    branches: &Branches,
    indent: &str,
    lines: &mut Vec<(String, String)>,
) {
    for (index, node) in nodes.iter().enumerate() {
        let last = index + 1 == nodes.len();
        let branch = if last { branches.last } else { branches.middle };
        match node {
            Node::Folder { name, children } => {
                lines.push((format!("{indent}{branch}{}/", clean(name)), String::new()));
                let below = if last { "    " } else { branches.below };
                render(children, branches, &format!("{indent}{below}"), lines);
            }
            Node::File { name, length, note } => {
                let rest = format!("{:>10}  {note}", size(*length));
                lines.push((format!("{indent}{branch}{}", clean(name)), rest));
            }
        }
    }
}
