//! One colour and one marker for each family through the whole report.

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

/// Names in the order in which charts, then drawings, first have them, whatever their case: studies write networks as their papers do and
/// as their code does.
pub(crate) struct Colours(Vec<String>);

impl Colours {
    pub fn of(sections: &[Section]) -> Self {
        let mut names: Vec<String> = Vec::new();
        let mut add = |name: &str| {
            let name = name.to_lowercase();
            if !names.contains(&name) {
                names.push(name);
            }
        };
        let parts = || sections.iter().flat_map(|section| &section.parts);
        for part in parts() {
            if let Part::Figure(figure) = part {
                figure.charts.iter().flat_map(|chart| &chart.series).for_each(|series| add(&series.name));
            }
        }
        // Behind the charts': what is compared comes first.
        for part in parts() {
            if let Part::Drawing(drawing) = part {
                drawing.stacks.iter().for_each(|stack| add(&stack.family));
            }
        }
        Self(names)
    }

    /// The name's place: it stands for colour and marker.
    pub fn place(&self, name: &str) -> usize {
        let name = name.to_lowercase();
        self.0.iter().position(|other| *other == name).unwrap_or(0)
    }

    pub fn colour(&self, name: &str) -> RGBColor {
        PALETTE[self.place(name) % PALETTE.len()]
    }
}
