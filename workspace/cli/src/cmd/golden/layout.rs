//! Between the layout of cases and that of the kernels.

use super::case::Array;

/// N x C x H x W to N x H x W x C.
pub fn nhwc(map: &Array) -> anyhow::Result<Vec<f32>> {
    let [images, channels, height, width] = map.nchw()?;
    let area = height * width;
    let at = |image: usize, pixel: usize, channel: usize| map.values[(image * channels + channel) * area + pixel];
    let pixels = (0..images).flat_map(|image| (0..area).map(move |pixel| (image, pixel)));
    Ok(pixels.flat_map(|(image, pixel)| (0..channels).map(move |channel| at(image, pixel, channel))).collect())
}

/// N x H x W x C to N x C x H x W, whose shape is given.
pub fn nchw(values: &[f32], shape: &[usize]) -> Vec<f32> {
    let channels = shape.get(1).copied().unwrap_or(1);
    let area: usize = shape.iter().skip(2).product();
    let images = values.chunks_exact((channels * area).max(1));
    images.flat_map(|image| (0..channels).flat_map(move |c| image.iter().skip(c).step_by(channels))).copied().collect()
}

/// Some channels of an NCHW map.
pub fn channels(map: &Array, first: usize, count: usize) -> anyhow::Result<Array> {
    let [images, channels, height, width] = map.nchw()?;
    let area = height * width;
    let image = |image: &[f32]| image[first * area..][..count * area].to_vec();
    let values = map.values.chunks_exact(channels * area).flat_map(image).collect();
    Ok(Array { shape: vec![images, count, height, width], values })
}

/// NCHW maps side by side along their channels.
pub fn concat(groups: &[Vec<f32>], images: usize) -> Vec<f32> {
    let image = |image: usize| {
        groups.iter().flat_map(move |group| {
            let size = group.len() / images;
            &group[image * size..][..size]
        })
    };
    (0..images).flat_map(image).copied().collect()
}

/// Per channel of an NCHW map, in f64.
pub fn channel_sums(map: &[f32], area: usize, channels: usize) -> Vec<f32> {
    let mut sums = vec![0f64; channels];
    for (values, channel) in map.chunks_exact(area).zip((0..channels).cycle()) {
        sums[channel] += values.iter().map(|value| f64::from(*value)).sum::<f64>();
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}
