//! The ranges of a network's maps, from images.

use std::sync::{Mutex, PoisonError};

use sandglass_ops::Runtime;

use crate::net::{Float, each, image_len};
use crate::{Images, Net, Observer, QuantError, Range, Seen, Warning};

/// Bins between the smallest and the largest value of a map: far finer than 255 steps.
const BINS: usize = 1 << 13;

/// What was seen of each map; parallel to the graph's maps.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    pub ranges: Vec<Range>,
    /// Mean of each channel.
    pub means: Vec<Vec<f64>>,
    pub warnings: Vec<Warning>,
}

/// Observes all maps of `net` on all images. Percentiles and errors are taken from histograms of 8192 bins.
///
/// # Errors
/// No images, images of a size that the graph does not take, a value that is no number, by the map's name.
pub fn calibrate(runtime: &Runtime, net: &Net, images: &Images, observer: Observer) -> Result<Calibration, QuantError> {
    if images.values.is_empty() {
        return Err(QuantError::NoImages);
    }
    let float = Float::new(net, runtime, images)?;
    let of_image = |image: &[f32]| -> Vec<Extent> {
        let maps = float.maps(image, |_, _| ());
        maps.iter().zip(net.graph.maps()).map(|(values, map)| Extent::of(values, map.channels)).collect()
    };
    let mut all = each(runtime, images, &net.graph, of_image)?.into_iter();
    let mut extents = all.next().ok_or(QuantError::NoImages)?;
    for image in all {
        extents.iter_mut().zip(&image).for_each(|(extent, image)| extent.join(image));
    }
    for (extent, map) in extents.iter().zip(net.graph.maps()) {
        if !extent.is_finite {
            return Err(QuantError::NotFinite(map.name.clone()));
        }
    }
    let ends: Vec<(f64, f64)> = extents.iter().map(|extent| (extent.low, extent.high)).collect();
    let ranges = match observer {
        Observer::MinMax => ends.iter().map(|&(low, high)| Range { low, high, mse: None }).collect(),
        _ => {
            let bins = Mutex::new(vec![vec![0u64; BINS]; ends.len()]);
            each(runtime, images, &net.graph, |image| {
                let counted: Vec<Vec<u32>> =
                    float.maps(image, |_, _| ()).iter().zip(&ends).map(|(map, ends)| count(map, *ends)).collect();
                let mut bins = bins.lock().unwrap_or_else(PoisonError::into_inner);
                for (bins, counted) in bins.iter_mut().zip(counted) {
                    bins.iter_mut().zip(counted).for_each(|(all, own)| *all += u64::from(own));
                }
            })?;
            let bins = bins.into_inner().unwrap_or_else(PoisonError::into_inner);
            let range =
                |(&(low, high), bins): (&(f64, f64), &Vec<u64>)| Seen::of_histogram(low, high, bins).range(observer);
            ends.iter().zip(&bins).map(range).collect()
        }
    };
    let means = extents.iter().map(|extent| extent.sums.iter().map(|sum| sum / extent.pixels as f64).collect());
    Ok(Calibration { ranges, means: means.collect(), warnings: warnings(net, images, &ends) })
}

fn warnings(net: &Net, images: &Images, ends: &[(f64, f64)]) -> Vec<Warning> {
    let mut images = images.values.chunks_exact(image_len(&net.graph, images));
    let mut warnings = Vec::new();
    if let Some(first) = images.next() {
        match images.len() {
            0 => warnings.push(Warning::OneImage),
            _ if images.all(|image| image == first) => warnings.push(Warning::SameImages),
            _ => {}
        }
    }
    let constant = ends.iter().zip(net.graph.maps()).filter(|((low, high), _)| low == high);
    warnings.extend(constant.map(|(_, map)| Warning::Constant { map: map.name.clone() }));
    warnings
}

/// How often values fall into each bin.
fn count(map: &[f32], (low, high): (f64, f64)) -> Vec<u32> {
    let mut bins = vec![0; BINS];
    let per_value = if high > low { BINS as f64 / (high - low) } else { 0.0 };
    for &value in map {
        let bin = (f64::from(value) - low) * per_value;
        // The cast takes what is below 0 to 0.
        bins[(bin as usize).min(BINS - 1)] += 1;
    }
    bins
}

/// Of one map.
struct Extent {
    low: f64,
    high: f64,
    is_finite: bool,
    sums: Vec<f64>,
    pixels: u64,
}

impl Extent {
    fn of(values: &[f32], channels: usize) -> Self {
        let mut sums = vec![0.0; channels];
        for pixel in values.chunks_exact(channels.max(1)) {
            sums.iter_mut().zip(pixel).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        // Eight at a time, so that none waits for the one before it.
        let (mut lows, mut highs) = ([f32::INFINITY; 8], [f32::NEG_INFINITY; 8]);
        for values in values.chunks(8) {
            for ((low, high), &value) in lows.iter_mut().zip(&mut highs).zip(values) {
                *low = if value < *low { value } else { *low };
                *high = if value > *high { value } else { *high };
            }
        }
        let (low, high) =
            (lows.into_iter().fold(f32::INFINITY, f32::min), highs.into_iter().fold(f32::NEG_INFINITY, f32::max));
        // A sum in f64 is a number if and only if all of its f32 are.
        let is_finite = sums.iter().all(|sum: &f64| sum.is_finite());
        let pixels = (values.len() / channels.max(1)) as u64;
        Self { low: f64::from(low), high: f64::from(high), is_finite, sums, pixels }
    }

    fn join(&mut self, other: &Self) {
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.is_finite &= other.is_finite;
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, other)| *sum += other);
        self.pixels += other.pixels;
    }
}
