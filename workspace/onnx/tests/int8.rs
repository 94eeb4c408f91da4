//! QDQ files, run by a slow interpreter of the operators that are written, beside the integers themselves.

mod interpreter;

use interpreter::{image, run, weights};
use prost::Message;
use sandglass_models::NetworkConfig;
use sandglass_onnx::encode_int8;
use sandglass_onnx::proto::ModelProto;
use sandglass_ops::Runtime;
use sandglass_quant::{Images, Net, Quantised, Scheme, calibrate, quantise};

const SIDE: usize = 37;

fn quantised(name: &str, width: f64, scheme: &Scheme) -> Quantised {
    let config = NetworkConfig { width, classes: 7, ..name.parse().unwrap() };
    let graph = config.build().unwrap();
    let weights = weights(&graph);
    let values = image(SIDE);
    let images = Images { values: &values, height: SIDE, width: SIDE };
    let net = scheme.shape(Net::new(&graph, &weights).unwrap());
    let calibration = calibrate(&Runtime::new(1).unwrap(), &net, &images, scheme.observer).unwrap();
    quantise(&net, &calibration, scheme).unwrap().0
}

#[test]
fn qdq_files_give_nearly_the_integers_scores() {
    let plain = Scheme::default();
    let equalised = Scheme { equalise: true, ..Scheme::built_in("per-tensor").unwrap() };
    let int8_logits = Scheme { int8_logits: true, ..plain.clone() };
    for (name, width, scheme) in [
        ("mobilenetv2", 0.35, &plain),
        ("mobilenetv2", 0.35, &equalised),
        ("mobilenext", 0.35, &int8_logits),
        ("mobilenext_div3", 0.35, &plain),
        ("efficientnet_b0", 1.0, &plain),
    ] {
        let network = quantised(name, width, scheme);
        let bytes = encode_int8("test", &network, (SIDE, SIDE)).unwrap();
        assert_eq!(bytes, encode_int8("test", &network, (SIDE, SIDE)).unwrap());
        let graph = ModelProto::decode(bytes.as_slice()).unwrap().graph.unwrap();
        let values = image(SIDE);
        let images = Images { values: &values, height: SIDE, width: SIDE };
        let own = &network.scores(&Runtime::new(1).unwrap(), &images).unwrap()[0];
        let written = &run(&graph, &values, SIDE)[0].1;
        // The integers round twice and the file once: here and there a step differs, and grows through the layers. What
        // is written wrong (a zero point, a clamp, a shortcut) leaves nothing of the scores.
        let norm = |of: &mut dyn Iterator<Item = f64>| of.map(|x| x * x).sum::<f64>().sqrt();
        let error = norm(&mut own.iter().zip(written).map(|(a, b)| a - b)) / norm(&mut own.iter().copied());
        assert!(own.len() == written.len() && error < 0.2, "{name}: {error}: {own:?} {written:?}");
    }
}
