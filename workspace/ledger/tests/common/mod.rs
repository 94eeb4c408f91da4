use sandglass_ledger::{Axis, Row, Status};

/// A sound row.
pub fn row(cell: &str, metric: &str, value: f64) -> Row {
    Row {
        study: "width".into(),
        profile: "smoke".into(),
        cell: cell.into(),
        axes: [("network", cell), ("width", "0.35")]
            .map(|(name, value)| Axis { name: name.into(), value: value.into() })
            .into(),
        dataset: "embedded".into(),
        synthetic: true,
        seed: 0,
        metric: metric.into(),
        part: None,
        value: Some(value),
        unit: "%".into(),
        n: 2000,
        status: Status::Ok,
        error: None,
        samples: vec![10.0, 55.5, value],
        samples_at: vec![5.0, 10.0, 12.0],
        once: false,
        engine: None,
        commit: "0123abcd".into(),
        dirty: false,
        made_by: vec!["0123abcc".into(), "0123abcd".into()],
        made_from: Some("dd".into()),
        command: "sandglass run width".into(),
        cell_hash: "aa".into(),
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
