//! What stands around the network of a detector: the boxes that it is read against, how it is trained, and how its
//! detections are chosen and scored. SSD (ECCV 2016), in the forms of MobileNeXt's official detection code and of
//! TensorFlow's SSDLite.
//!
//! A box is `[xmin, ymin, xmax, ymax]`. Where nothing else is said these are shares of the image's width and height; a
//! prior is a box as `[centre x, centre y, width, height]` in the same shares. Classes are counted from 0 without the
//! background, labels from 1: label 0 is the background's.
//!
//! ```
//! use sandglass_detect::Reading;
//! use sandglass_models::{DetectorConfig, DetectorName};
//!
//! let config = DetectorConfig::new(DetectorName::SsdliteMobileNeXt);
//! let reading = Reading::new(&config, (320, 320))?;
//! assert_eq!(reading.priors().len(), 3234);
//! # Ok::<(), sandglass_detect::DetectError>(())
//! ```

#![warn(missing_docs, clippy::missing_errors_doc)]

mod average_precision;
mod boxes;
mod classes;
mod coder;
mod error;
mod evaluate;
mod input;
mod loss;
mod matching;
mod nms;
mod postprocess;
mod priors;
mod reading;
mod tf_anchors;
mod training;

pub use average_precision::{Curve, all_points, eleven_points, hundred_and_one_points};
pub use boxes::{area, centred, corners, iou};
pub use classes::{COCO_IDS, ClassNames, VOC, coco_name, voc_of_coco};
pub use coder::Coder;
pub use error::DetectError;
pub use evaluate::{COCO_THRESHOLDS, Counting, Evaluation, MeanAp, ScoredImage, Truth, evaluate};
pub use input::{Eye, Input, Sampling};
pub use loss::{MultiBox, MultiBoxLoss};
pub use matching::match_priors;
pub use nms::nms;
pub use postprocess::{Detection, Postprocess};
pub use priors::{PriorLevel, priors};
pub use reading::Reading;
pub use tf_anchors::tf_anchors;
pub use training::{ObjectDetection, Pretrained};
