//! Optimisers, schedules, averages, clipping and loss against float64 PyTorch and timm (`fixtures/golden`, a copy of the
//! reference's training cases).

use safetensors::SafeTensors;
use sandglass_train::{Ema, Optimizer, OptimizerConfig, Schedule, clip_scale, cross_entropy, gradient_norm};
use serde_json::Value;

const CASES: &str = include_str!("fixtures/golden/cases.json");
const TENSORS: &[u8] = include_bytes!("fixtures/golden/training.safetensors");

struct Case<'a> {
    json: &'a Value,
    tensors: &'a SafeTensors<'a>,
}

impl Case<'_> {
    fn tensor(&self, key: &Value) -> (Vec<usize>, &[u8]) {
        let view = self.tensors.tensor(key.as_str().unwrap()).unwrap();
        (view.shape().to_vec(), view.data())
    }

    fn floats(&self, key: &Value) -> Vec<f32> {
        self.tensor(key).1.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn input(&self, name: &str) -> Vec<f32> {
        self.floats(&self.json["inputs"][name])
    }

    /// The rows of an input, along its first axis.
    fn rows(&self, name: &str) -> Vec<Vec<f32>> {
        let (shape, _) = self.tensor(&self.json["inputs"][name]);
        self.input(name).chunks_exact(shape[1..].iter().product()).map(<[f32]>::to_vec).collect()
    }

    fn config(&self, name: &str) -> f64 {
        self.json["config"][name].as_f64().unwrap()
    }

    fn check(&self, name: &str, got: impl IntoIterator<Item = f64>) {
        let expected = &self.json["expected"][name];
        let want = self.floats(&expected["tensor"]);
        let got: Vec<f64> = got.into_iter().collect();
        assert_eq!(got.len(), want.len(), "{} {name}", self.json["name"]);
        let (rtol, atol) = (expected["rtol"].as_f64().unwrap(), expected["atol"].as_f64().unwrap());
        for (at, (got, want)) in got.iter().zip(want).enumerate() {
            let want = f64::from(want);
            let close = (got - want).abs() <= atol + rtol * want.abs();
            assert!(close, "{} {name}[{at}]: {got} not {want}", self.json["name"]);
        }
    }
}

#[test]
fn every_training_case() {
    let cases: Value = serde_json::from_str(CASES).unwrap();
    let tensors = SafeTensors::deserialize(TENSORS).unwrap();
    let mut count = 0;
    for json in cases["cases"].as_array().unwrap() {
        let case = Case { json, tensors: &tensors };
        match json["kind"].as_str().unwrap() {
            "sgd" => optimizer(
                &case,
                OptimizerConfig::Sgd {
                    momentum: case.config("momentum"),
                    nesterov: json["config"]["nesterov"].as_bool().unwrap(),
                },
            ),
            "rmsprop_tf" => optimizer(
                &case,
                OptimizerConfig::RmspropTf {
                    alpha: case.config("alpha"),
                    momentum: case.config("momentum"),
                    eps: case.config("eps"),
                },
            ),
            "lr_schedule" => {
                let schedule: Schedule = serde_json::from_value(json["config"].clone()).unwrap();
                case.check("lr", (0..case.config("count") as u64).map(|t| schedule.at(t as f64)));
            }
            "ema" => {
                let ema: Ema = serde_json::from_value(json["config"].clone()).unwrap();
                let params = case.rows("params");
                let mut average = vec![params[0].clone()];
                let mut steps = average.concat();
                for (t, values) in params.iter().enumerate().skip(1) {
                    ema.update(&mut average, std::slice::from_ref(values), t as u64);
                    steps.extend(average.concat());
                }
                case.check("ema", steps.into_iter().map(f64::from));
            }
            "clip_grad_norm" => {
                let gradients = [case.input("grad0"), case.input("grad1")];
                let norm = gradient_norm(&gradients);
                let scale = clip_scale(norm, case.config("max_norm"));
                case.check("norm", [norm]);
                for (name, gradient) in ["grad0", "grad1"].iter().zip(gradients) {
                    case.check(name, gradient.into_iter().map(|g| f64::from(g * scale)));
                }
            }
            "cross_entropy" => {
                let target = case.tensor(&json["inputs"]["target"]).1.chunks_exact(8);
                let target: Vec<u32> = target.map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect();
                let (classes, smoothing) = (case.config("classes") as usize, case.config("label_smoothing"));
                let loss = cross_entropy(&case.input("logits"), &target, classes, smoothing).unwrap();
                let cotangent = f64::from(case.floats(&json["cotangent"])[0]);
                case.check("output", [loss.mean]);
                case.check("grad.logits", loss.gradient.iter().map(|&g| f64::from(g) * cotangent));
            }
            kind => panic!("unknown kind {kind}"),
        }
        count += 1;
    }
    assert_eq!(count, 25);
}

fn optimizer(case: &Case, config: OptimizerConfig) {
    let mut values = vec![case.input("p0"), case.input("p1")];
    let (first, second) = (case.rows("grads0"), case.rows("grads1"));
    let decay = ["p0", "p1"].map(|name| case.json["config"]["weight_decay"][name].as_f64().unwrap() as f32);
    let sizes: Vec<usize> = values.iter().map(Vec::len).collect();
    let mut optimizer = Optimizer::new(config, &sizes);
    let mut steps = [Vec::new(), Vec::new()];
    for (lr, gradients) in case.json["config"]["lrs"].as_array().unwrap().iter().zip(first.into_iter().zip(second)) {
        optimizer.step(&mut values, &[gradients.0, gradients.1], &decay, 1.0, lr.as_f64().unwrap());
        for (steps, values) in steps.iter_mut().zip(&values) {
            steps.extend(values.iter().map(|&v| f64::from(v)));
        }
    }
    for (name, got) in ["p0", "p1"].iter().zip(steps) {
        case.check(name, got);
    }
}
