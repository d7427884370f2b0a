//! A bar chart as SVG: a bar for each row, from 0 to the median of the first column, with a line
//! from the minimum to the maximum; beside it the second column as text. It is readable on light
//! and dark backgrounds.

use std::fmt::Write as _;

use super::table::{Figure, Table};

const WIDTH: f64 = 760.0;
const ROW: f64 = 26.0;
const TOP: f64 = 44.0;
/// Where bars start, and the length of the longest.
const LEFT: f64 = 190.0;
const LONGEST: f64 = 390.0;
/// The height of a line of small text, and how many characters fit in it.
const LINE: f64 = 14.0;
const LINE_LENGTH: usize = 120;

const STYLE: &str = "
  text { font: 13px sans-serif; fill: #24292f }
  .small { font-size: 11px; fill: #57606a }
  .bar { fill: #8c959f } .ours { fill: #1f883d } .bound { fill: none; stroke: #8c959f }
  .spread { stroke: #24292f }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1 } .spread { stroke: #e6edf3 }
    .bar { fill: #656c76 } .ours { fill: #3fb950 } .bound { stroke: #656c76 }
  }";

/// Draws the chart of a table, with the command that made it.
pub(super) fn svg(table: &Table, command: &str) -> String {
    let rows = table.rows.iter().filter(|row| row.figures[0].median().is_some());
    // The terms of the floor and the transport are far beyond what is compared.
    let rows: Vec<_> = rows.filter(|row| !is_term(&row.name)).collect();
    let most = rows.iter().filter_map(|row| row.figures[0].most()).fold(1.0, f64::max);
    let command = lines(command);
    let end = TOP + ROW * rows.len() as f64 + 2.0;
    let height = end + LINE * command.len() as f64 + 8.0;
    let [rate, cost] = [0, 1].map(|column| table.columns[column].name);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>{title}</title>\n<style>{STYLE}\n</style>\n\
         <text x=\"8\" y=\"18\">{title}</text>\n\
         <text x=\"8\" y=\"35\" class=\"small\">{rate}, median and spread; {cost}</text>\n",
        title = escaped(&table.title),
    );
    for (index, row) in rows.iter().enumerate() {
        let class = match row.name.as_str() {
            "bt-cli" => "ours",
            "floor" => "bound",
            _ => "bar",
        };
        let name = format!("{} {}", row.name, row.version);
        let top = TOP + ROW * index as f64;
        bar(&mut svg, top, &name, class, [&row.figures[0], &row.figures[1]], LONGEST / most);
    }
    let line = |line: &String| format!("<tspan x=\"8\" dy=\"{LINE}\">{}</tspan>", escaped(line));
    let command: String = command.iter().map(line).collect();
    let _infallible = write!(svg, "<text y=\"{end}\" class=\"small\">{command}</text>\n</svg>\n");
    svg
}

/// Breaks `text` into lines of at most [`LINE_LENGTH`], unless a word is longer.
fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= LINE_LENGTH => {
                *line += &format!(" {word}");
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn bar(svg: &mut String, top: f64, name: &str, class: &str, figures: [&Figure; 2], scale: f64) {
    let [rate, cost] = figures;
    let at = |value: Option<f64>| value.unwrap_or(0.0) * scale;
    let (length, middle, base) = (at(rate.median()), top + 9.0, top + 14.0);
    let (least, most) = (LEFT + at(rate.least()), LEFT + at(rate.most()));
    let (median, cost) = (rate.median().unwrap_or(0.0), cost.median().unwrap_or(0.0));
    let words = most.max(LEFT + length) + 6.0;
    let _infallible = write!(
        svg,
        "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text>\n\
         <rect x=\"{LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"18\" class=\"{class}\"/>\n\
         <line x1=\"{least:.1}\" y1=\"{middle}\" x2=\"{most:.1}\" y2=\"{middle}\" class=\"spread\"/>\n\
         <text x=\"{words:.1}\" y=\"{base}\">{median:.0} <tspan class=\"small\">({cost:.2})</tspan>\
         </text>\n",
        LEFT - 8.0,
        escaped(name.trim()),
    );
}

fn is_term(name: &str) -> bool {
    name.starts_with("floor: ") || name == "transport only"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_command_is_broken_between_words() {
        assert_eq!(lines("cargo xtask bench"), ["cargo xtask bench"]);
        let words = vec!["word"; 100].join(" ");
        let broken = lines(&words);
        assert!(broken.len() > 1 && broken.iter().all(|line| line.len() <= LINE_LENGTH));
        assert_eq!(broken.join(" "), words);
        let long = "x".repeat(LINE_LENGTH + 1);
        assert_eq!(lines(&format!("a {long} b")), ["a", &long, "b"]);
    }
}
