//! The files of a torrent as a tree.

use super::{Style, clean, size};

/// One line of the tree.
pub(crate) struct TreeFile {
    /// The folders, then the file.
    pub(crate) path: Vec<String>,
    /// In bytes.
    pub(crate) length: u64,
    /// What is shown after the size, for example the number for `--files`.
    pub(crate) note: String,
}

/// Sizes stand at most this many columns to the right; longer names push theirs on.
const MAX_WIDTH: usize = 72;

enum Node {
    Folder { name: String, children: Vec<Node> },
    File { name: String, length: u64, note: String },
}

/// `root` and below it every file, in the order they first appear.
pub(crate) fn file_tree(root: &str, files: Vec<TreeFile>, style: Style) -> String {
    let mut nodes = Vec::new();
    for file in files {
        insert(&mut nodes, file);
    }
    let mut lines = Vec::new();
    render(&nodes, "", &mut lines);
    let width = lines.iter().map(|line| line.0.chars().count()).max().unwrap_or(0).min(MAX_WIDTH);
    let mut text = format!("{}\n", style.bold(format!("{}/", clean(root))));
    for (name, rest) in lines {
        let gap = " ".repeat(width.saturating_sub(name.chars().count()));
        let line = if rest.is_empty() { name } else { format!("{name}{gap}  {rest}") };
        text += &format!("{line}\n");
    }
    text
}

/// Files come sorted by folder as a rule, so only the last folder is looked at: a folder that
/// appears twice is shown twice, and the work stays linear.
fn insert(nodes: &mut Vec<Node>, mut file: TreeFile) {
    let mut nodes = nodes;
    let name = file.path.pop().unwrap_or_default();
    for folder in file.path {
        let last_is_it = matches!(nodes.last(), Some(Node::Folder { name, .. }) if *name == folder);
        if !last_is_it {
            nodes.push(Node::Folder { name: folder, children: Vec::new() });
        }
        let Some(Node::Folder { children, .. }) = nodes.last_mut() else { return };
        nodes = children;
    }
    nodes.push(Node::File { name, length: file.length, note: file.note });
}

/// A stack of its own would be safer against deep trees, but paths have at most 100 elements.
fn render(nodes: &[Node], indent: &str, lines: &mut Vec<(String, String)>) {
    for (index, node) in nodes.iter().enumerate() {
        let last = index + 1 == nodes.len();
        let branch = if last { "└── " } else { "├── " };
        match node {
            Node::Folder { name, children } => {
                lines.push((format!("{indent}{branch}{}/", clean(name)), String::new()));
                let below = if last { "    " } else { "│   " };
                render(children, &format!("{indent}{below}"), lines);
            }
            Node::File { name, length, note } => {
                let rest = format!("{:>10}  {note}", size(*length));
                lines.push((format!("{indent}{branch}{}", clean(name)), rest));
            }
        }
    }
}
