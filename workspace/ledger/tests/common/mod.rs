use sandglass_ledger::{Row, Status};

/// A sound row.
pub fn row(cell: &str, metric: &str, value: f64) -> Row {
    Row {
        study: "width".into(),
        profile: "smoke".into(),
        cell: cell.into(),
        variant: cell.into(),
        width: 0.35,
        dataset: "embedded".into(),
        synthetic: true,
        scale: "32x32, 10 classes".into(),
        seed: 0,
        metric: metric.into(),
        value: Some(value),
        unit: "%".into(),
        n: 2000,
        status: Status::Ok,
        error: None,
        samples: vec![10.0, 55.5, value],
        commit: "0123abcd".into(),
        dirty: false,
        command: "sandglass run width".into(),
        recipe_hash: "aa".into(),
        data_hash: "bb".into(),
        checkpoint_hash: Some("cc".into()),
        machine: "a CPU".into(),
        isa: "avx2".into(),
        threads: 2,
        versions: "sandglass 0.1.0".into(),
        started: "2026-01-31T12:00:00Z".into(),
        seconds: 12.5,
    }
}
