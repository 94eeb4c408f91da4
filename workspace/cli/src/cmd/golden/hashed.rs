//! Tensors that follow from their name: FNV-1a of `seed:name`, then splitmix64 by index.

use anyhow::{Context, bail, ensure};

use super::case::Array;

/// The rule of a case.
#[derive(Clone, Copy)]
pub struct Generator {
    pub seed: u64,
    /// Scales convolutions.
    pub gain: f64,
}

/// 2 GiB.
const MAX_ELEMENTS: usize = 1 << 29;

impl Generator {
    pub fn array(self, name: &str, shape: Vec<usize>) -> anyhow::Result<Array> {
        let elements = shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
        let elements = elements.with_context(|| format!("{name}: shape {shape:?}"))?;
        ensure!(elements <= MAX_ELEMENTS, "{name}: {elements} elements are too many");
        let hash = fnv1a(&format!("{}:{name}", self.seed));
        let units = (0..elements as u64).map(|index| unit(hash, index));
        let values = match shape.as_slice() {
            _ if name == "input" => units.map(|u| 2.0 * signed(u)).collect(),
            [_, rest @ ..] if shape.len() == 4 => {
                let fan_in: usize = rest.iter().product();
                let scale = (self.gain / fan_in as f64).sqrt() as f32;
                units.map(|u| scale * signed(u)).collect()
            }
            [_, inputs] => {
                let scale = (3.0 / *inputs as f64).sqrt() as f32;
                units.map(|u| scale * signed(u)).collect()
            }
            [_] if name.ends_with("running_mean") => units.map(|u| 0.25 * signed(u)).collect(),
            [_] if name.ends_with("running_var") => units.map(|u| 0.75 + 0.5 * u).collect(),
            [_] if name.ends_with("weight") => units.map(|u| 1.0 + 0.25 * signed(u)).collect(),
            [_] if name.ends_with("bias") => units.map(|u| 0.25 * signed(u)).collect(),
            _ => bail!("no rule for a hashed {name} of shape {shape:?}"),
        };
        Ok(Array { shape, values, integers: Vec::new() })
    }
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

/// In 0..1, exact.
fn unit(hash: u64, index: u64) -> f32 {
    let z = hash.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / 16_777_216.0
}

/// From 0..1 to -1..1, exact.
fn signed(unit: f32) -> f32 {
    2.0 * unit - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures that the rule's description gives as a first check.
    #[test]
    fn first_values_are_the_documented_ones() {
        assert_eq!(fnv1a("1:features.0.0.weight"), 0x05BE_6E37_588B_4D25);
        let weight = Generator { seed: 1, gain: 5.0 }.array("features.0.0.weight", vec![32, 3, 3, 3]).unwrap();
        assert_eq!(weight.values[..4], [-0.333_654_6, -0.388_801_55, 0.141_879_66, 0.162_011_7]);
        assert!(Generator { seed: 1, gain: 5.0 }.array("weight", vec![usize::MAX, 2]).is_err());
    }
}
