//! One colour and one marker for each family through the whole report.

use std::collections::BTreeSet;

use plotters::style::RGBColor;
use sandglass_study::{Part, Section};

/// Readable on light and on dark, and apart from each other without colour vision.
const PALETTE: [RGBColor; 6] = [
    RGBColor(0x2b, 0x7b, 0xba),
    RGBColor(0xd0, 0x6a, 0x1c),
    RGBColor(0x4c, 0x99, 0x4c),
    RGBColor(0xa3, 0x5f, 0xb0),
    RGBColor(0x8a, 0x7a, 0x24),
    RGBColor(0xc2, 0x4f, 0x6e),
];

/// Names that several pictures draw keep their place through the report, whatever their case: studies write networks as
/// their papers do and as their code does. Other names have a place within their picture alone.
pub(crate) struct Colours(Vec<String>);

impl Colours {
    pub fn of(sections: &[Section]) -> Self {
        let mut pictures: Vec<BTreeSet<String>> = Vec::new();
        let mut order: Vec<String> = Vec::new();
        for part in sections.iter().flat_map(|section| &section.parts) {
            let names: Vec<String> = match part {
                Part::Figure(figure) => figure
                    .charts
                    .iter()
                    .flat_map(|chart| &chart.series)
                    .map(|series| series.name.to_lowercase())
                    .collect(),
                Part::Drawing(drawing) => drawing.stacks.iter().map(|stack| stack.family.to_lowercase()).collect(),
                // The first are what is there, and no family.
                Part::Pictures(pictures) => pictures.series.iter().skip(1).map(|name| name.to_lowercase()).collect(),
                _ => continue,
            };
            order.extend(names.iter().filter(|name| !order.contains(name)).cloned().collect::<BTreeSet<_>>());
            pictures.push(names.into_iter().collect());
        }
        order.retain(|name| pictures.iter().filter(|names| names.contains(name)).count() > 1);
        Self(order)
    }

    /// Where each name of a picture stands: it says its colour and marker.
    pub fn places<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<usize> {
        let names: Vec<String> = names.map(str::to_lowercase).collect();
        let kept = |name: &String| self.0.iter().position(|other| other == name);
        let mut used: BTreeSet<usize> = names.iter().filter_map(kept).collect();
        let mut own: Vec<(String, usize)> = Vec::new();
        let mut place = |name: &String| {
            if let Some(place) = kept(name).or(own.iter().find(|(other, _)| other == name).map(|(_, place)| *place)) {
                return place;
            }
            let free = (0..).find(|place| !used.contains(place)).unwrap_or(0);
            used.insert(free);
            own.push((name.clone(), free));
            free
        };
        names.iter().map(&mut place).collect()
    }
}

pub(crate) fn colour(place: usize) -> RGBColor {
    PALETTE[place % PALETTE.len()]
}
