//! Detectors' files, run by a slow interpreter, beside our own plan: heads' maps in the detector's order, all levels.

mod interpreter;

use std::sync::Arc;

use interpreter::{image, run, weights};
use prost::Message;
use sandglass_infer::{Options, Plan};
use sandglass_models::{DetectorConfig, DetectorName};
use sandglass_onnx::encode;
use sandglass_onnx::proto::ModelProto;
use sandglass_ops::Runtime;

/// Odd, so that paddings differ; large enough for six levels.
const SIDE: usize = 75;

#[test]
fn every_detectors_file_gives_the_plans_maps() {
    for name in DetectorName::all() {
        let config = DetectorConfig { width: 0.25, classes: 3, name };
        let detector = config.build().unwrap();
        let (weights, pixels) = (weights(&detector.graph), image(SIDE));
        let bytes = encode("detector", &detector.graph, &weights, (SIDE, SIDE)).unwrap();
        let graph = ModelProto::decode(bytes.as_slice()).unwrap().graph.unwrap();
        let runtime = Arc::new(Runtime::new(1).unwrap());
        let mut plan = Plan::new(runtime, &detector.graph, &weights, (SIDE, SIDE), Options::default()).unwrap();
        let own = plan.run(&pixels).unwrap();
        let written = run(&graph, &pixels, SIDE);
        assert_eq!(written.len(), 12);
        for (at, (shape, values)) in written.iter().enumerate() {
            let own = own.get(at).unwrap();
            let [channels, rows, columns] = shape[..] else { panic!("{shape:?}") };
            let scores = if at < 6 { config.classes } else { 4 };
            assert_eq!((channels, values.len()), (detector.boxes[at % 6] * scores, own.len()), "{config}, map {at}");
            let largest = own.iter().fold(0f32, |most, value| most.max(value.abs()));
            // Ours are [rows, columns, channels].
            let place = |at: usize| (at % (rows * columns)) * channels + at / (rows * columns);
            let off = values.iter().enumerate().map(|(at, value)| (value - f64::from(own[place(at)])).abs());
            let off = off.fold(0.0, f64::max);
            assert!(largest > 0.1 && off < 1e-4 * f64::from(largest), "{config}, map {at}: {off} of {largest}");
        }
    }
}
