//! Quantised checkpoints: what was written is what is read, and nothing else is.

mod common;

use common::{images, net, of, runtime};
use sandglass_models::NetworkName;
use sandglass_quant::{Facts, Observer, Scheme, bytes, calibrate, is_quantised, load, quantise, save};

fn facts() -> Facts {
    Facts {
        network: "mobilenext".into(),
        width: 0.35,
        classes: 7,
        stem_stride: 2,
        same_padding: false,
        scheme: Scheme { equalise: true, saturate: true, ..Scheme::default() },
        calibrated_on: 2,
    }
}

#[test]
fn a_checkpoint_is_the_network_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.safetensors");
    let facts = facts();
    let net = facts.scheme.shape(net(NetworkName::MobileNeXt, 0.35));
    let values = images(2, 32);
    let calibration = calibrate(&runtime(), &net, &of(&values, 32), Observer::MinMax).unwrap();
    let (quantised, _) = quantise(&net, &calibration, &facts.scheme).unwrap();
    let size = save(&path, &quantised, &facts).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), size as u64);
    assert!(is_quantised(&path));
    let (again, found) = load(&path).unwrap();
    assert_eq!(found, facts);
    let scores = |network: &sandglass_quant::Quantised| network.scores(&runtime(), &of(&values, 32)).unwrap();
    assert_eq!(scores(&again), scores(&quantised));
    assert_eq!(bytes(&again, &facts).unwrap(), std::fs::read(&path).unwrap());
    // A quarter of f32, and a little for scales.
    let params = net.graph().tensors().iter().map(|spec| spec.len()).sum::<usize>();
    assert!(size > params && size < params + params / 4, "{size} bytes for {params} parameters");

    let written = std::fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&written[8..3000]).into_owned();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = written.clone();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        load(&path).unwrap_err().to_string()
    };
    let header = u64::from_le_bytes(written[..8].try_into().unwrap()) as usize;
    refused(&|bytes| bytes.truncate(bytes.len() - 1));
    refused(&|bytes| bytes.truncate(5));
    refused(&|bytes| bytes.truncate(8 + header));
    let at = text.find("mobilenext").unwrap() + 8;
    assert!(refused(&|bytes| bytes[at + 9] = b'x').contains("mobilenex"));
    let at = text.find(r#"\"classes\":7"#).unwrap() + 8;
    assert!(refused(&|bytes| bytes[at + 12] = b'8').contains("classifier"));
    // A map would keep one of the two.
    let message = refused(&|bytes| {
        let empty = br#"{"maps.scale":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"#;
        bytes.splice(8..9, empty.iter().copied());
        bytes[..8].copy_from_slice(&(header as u64 - 1 + empty.len() as u64).to_le_bytes());
    });
    assert!(message.contains("maps.scale is in it twice"), "{message}");
    // The scales lie in the four-byte part of the file; a negative one is refused whichever it is.
    let message = refused(&|bytes| bytes[8 + header..].iter_mut().for_each(|byte| *byte = 0xff));
    assert!(message.contains("no scale"), "{message}");
    assert!(!is_quantised(folder.path()));
}
