//! One seeded initialisation for every network.

use sandglass_data::{Draws, Purpose};
use sandglass_models::{Role, TensorSpec, Weights};

/// The official MobileNeXt code's: convolutions N(0, sqrt(2 / (k k out))), fan-out not divided by groups; linear
/// N(0, 0.01) with bias 0; batch norm weight 1 and bias 0. A tensor depends on `seed`, its place, shape and role alone.
pub fn initialise(specs: Vec<TensorSpec>, seed: u64) -> Weights {
    let tensor = |(place, spec)| tensor(spec, Draws::new(seed, Purpose::Init, 0, place as u64));
    let values = specs.iter().enumerate().map(tensor).collect();
    Weights { specs, values }
}

fn tensor(spec: &TensorSpec, mut draws: Draws) -> Vec<f32> {
    let mut normal = |std: f64| (0..spec.len()).map(|_| (std * draws.normal()) as f32).collect();
    match spec.role {
        Role::ConvWeight | Role::DepthwiseWeight => {
            let fan_out = spec.shape[0] * spec.shape[2..].iter().product::<usize>();
            normal((2.0 / fan_out as f64).sqrt())
        }
        Role::LinearWeight => normal(0.01),
        Role::NormWeight | Role::RunningVar => vec![1.0; spec.len()],
        Role::NormBias | Role::RunningMean | Role::ConvBias | Role::LinearBias => vec![0.0; spec.len()],
    }
}

/// Draws anew the convolutions whose names `chosen` takes: Xavier's uniform distribution, within sqrt(6 / (in + out)) of 0,
/// where the fans are those of a filter and of all filters, as PyTorch has them also of grouped convolutions.
pub fn xavier_uniform(weights: &mut Weights, seed: u64, chosen: impl Fn(&str) -> bool) {
    for (place, (spec, values)) in weights.specs.iter().zip(&mut weights.values).enumerate() {
        if !matches!(spec.role, Role::ConvWeight | Role::DepthwiseWeight) || !chosen(&spec.name) {
            continue;
        }
        let area: usize = spec.shape[2..].iter().product();
        let bound = (6.0 / ((spec.shape[0] + spec.shape[1]) * area) as f64).sqrt();
        let mut draws = Draws::new(seed, Purpose::Init, 0, place as u64);
        values.iter_mut().for_each(|value| *value = draws.between(-bound, bound) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, shape: &[usize], role: Role) -> TensorSpec {
        TensorSpec { name: name.into(), shape: shape.to_vec(), role }
    }

    fn std(values: &[f32]) -> f64 {
        (values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / values.len() as f64).sqrt()
    }

    #[test]
    fn spreads_are_the_official_ones() {
        let weights = initialise(
            vec![
                spec("pw.weight", &[256, 128, 1, 1], Role::ConvWeight),
                spec("dw.weight", &[2048, 1, 3, 3], Role::DepthwiseWeight),
                spec("fc.weight", &[100, 200], Role::LinearWeight),
                spec("bn.weight", &[3], Role::NormWeight),
                spec("bn.bias", &[3], Role::NormBias),
                spec("bn.running_mean", &[3], Role::RunningMean),
                spec("bn.running_var", &[3], Role::RunningVar),
                spec("fc.bias", &[2], Role::LinearBias),
            ],
            5,
        );
        for (at, want) in [(0, (2.0f64 / 256.0).sqrt()), (1, (2.0f64 / (9.0 * 2048.0)).sqrt()), (2, 0.01)] {
            let got = std(&weights.values[at]);
            assert!((got / want - 1.0).abs() < 0.03, "{}: {got} not {want}", weights.specs[at].name);
        }
        assert_eq!(weights.values[3..], [vec![1.0; 3], vec![0.0; 3], vec![0.0; 3], vec![1.0; 3], vec![0.0; 2]]);
    }

    /// A uniform distribution's standard deviation is its bound by the root of 3.
    #[test]
    fn xavier_is_the_chosen_ones_alone() {
        let mut weights = initialise(
            vec![
                spec("head.pw.weight", &[126, 96, 1, 1], Role::ConvWeight),
                spec("head.dw.weight", &[576, 1, 3, 3], Role::DepthwiseWeight),
                spec("head.pw.bias", &[126], Role::ConvBias),
                spec("features.pw.weight", &[126, 96, 1, 1], Role::ConvWeight),
            ],
            5,
        );
        let before = weights.clone();
        xavier_uniform(&mut weights, 5, |name| name.starts_with("head."));
        for (at, fans) in [(0, 222.0), (1, 9.0 * 577.0)] {
            let bound = (6.0f64 / fans).sqrt();
            let largest = weights.values[at].iter().fold(0.0f32, |most, value| most.max(value.abs()));
            assert!(f64::from(largest) <= bound && f64::from(largest) > 0.99 * bound, "{largest} of {bound}");
            assert!((std(&weights.values[at]) / bound * 3.0f64.sqrt() - 1.0).abs() < 0.03);
        }
        assert_eq!(weights.values[2..], before.values[2..]);
    }

    #[test]
    fn seeds_and_places_differ() {
        let twice = || vec![spec("a.weight", &[8, 1, 3, 3], Role::DepthwiseWeight); 2];
        let weights = initialise(twice(), 1);
        assert_eq!(weights, initialise(twice(), 1));
        assert_ne!(weights.values[0], weights.values[1]);
        assert_ne!(weights.values, initialise(twice(), 2).values);
    }
}
