//! The question itself: how far one network is ahead of the other at each width.

use sandglass_ledger::Summary;

use crate::Table;
use crate::comparison::{Comparison, Line, Outcome, spread};

impl Comparison {
    /// A heading and a table: second network minus first, width by width; the paper's difference, and ours seed by seed.
    /// None unless two networks are compared.
    pub fn gaps(&self) -> Option<(String, Table)> {
        let mut names: Vec<&str> = self.lines.iter().map(|line| line.model.as_str()).collect();
        names.dedup();
        let [first, second] = names[..] else { return None };
        let pairs: Vec<(&Line, &Line)> = self
            .lines
            .iter()
            .filter(|line| line.model == first)
            .filter_map(|line| {
                Some((line, self.lines.iter().find(|other| other.model == second && other.width == line.width)?))
            })
            .collect();
        let both = |at: usize| pairs.iter().any(|(a, b)| measured(a, at).is_some() && measured(b, at).is_some());
        let scales: Vec<usize> = (0..self.scales.len()).filter(|&at| both(at)).collect();
        let fixed = [
            ("width".to_owned(), true),
            (format!("multiply-adds, {second} / {first}"), true),
            ("top-1, paper (points)".to_owned(), true),
        ];
        let titles = scales.iter().filter_map(|&at| self.scales.get(at)).map(|scale| &scale.title);
        let ours = titles.map(|title| (format!("top-1, ours, {title} (points)"), true));
        let mut table = Table::new(fixed.into_iter().chain(ours));
        for (a, b) in &pairs {
            table.push(row(a, b, &scales));
        }
        Some((format!("{second} minus {first}, at equal width"), table))
    }
}

fn measured(line: &Line, scale: usize) -> Option<&[(u64, f64)]> {
    match line.results.get(scale) {
        Some(Outcome::Measured(values)) => Some(values),
        _ => None,
    }
}

fn row(first: &Line, second: &Line, scales: &[usize]) -> Vec<String> {
    let top1 = |line: &Line| line.paper.as_ref().and_then(|row| row.top1_pct);
    let paper = match (top1(first), top1(second)) {
        // A difference is as sure as the less sure of its two values.
        (Some(a), Some(b)) => format!("{:+.2}{}", b - a, first.confidence.max(second.confidence).mark()),
        _ => "?".into(),
    };
    let mut cells = vec![
        format!("{:?}", first.width),
        format!("{:.3}", second.cost.madds_total as f64 / first.cost.madds_total as f64),
        paper,
    ];
    cells.extend(scales.iter().map(|&at| match (measured(first, at), measured(second, at)) {
        (Some(a), Some(b)) => difference(a, b),
        _ => "\u{2013}".into(),
    }));
    cells
}

/// Mean and spread of the differences between runs of one seed.
fn difference(first: &[(u64, f64)], second: &[(u64, f64)]) -> String {
    let of_seed = |seed: u64| second.iter().find(|(other, _)| *other == seed).map(|(_, value)| *value);
    let pairs: Vec<f64> = first.iter().filter_map(|(seed, value)| Some(of_seed(*seed)? - value)).collect();
    match Summary::of(&pairs) {
        Some(summary) if summary.mean >= 0.0 => format!("+{}", spread(&summary)),
        Some(summary) => spread(&summary),
        None => "\u{2013}".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn differences_pair_seeds() {
        assert_eq!(difference(&[(0, 70.0), (1, 71.0)], &[(1, 73.0), (0, 71.0)]), "+1.50 \u{b1} 0.71 (n=2)");
        assert_eq!(difference(&[(0, 70.0), (1, 71.0)], &[(1, 70.5)]), "-0.50 (n=1)");
        assert_eq!(difference(&[(0, 70.0)], &[(1, 70.5)]), "\u{2013}");
    }
}
