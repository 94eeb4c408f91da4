//! What detectors name: Pascal VOC's classes, COCO's, and which of them are one.

use sandglass_data::DetectionSet;
/// Pascal VOC's twenty, in its order.
pub use sandglass_data::VOC_CLASSES as VOC;
use sandglass_models::DetectorConfig;

use crate::DetectError;

/// COCO's id of each of Pascal VOC's classes, parallel to [`VOC`].
pub const COCO_IDS: [usize; 20] = [5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72];

/// COCO's eighty by id; ids that it does not use are missing.
#[rustfmt::skip]
const COCO: [(usize, &str); 80] = [
    (1, "person"), (2, "bicycle"), (3, "car"), (4, "motorcycle"), (5, "airplane"), (6, "bus"), (7, "train"), (8, "truck"),
    (9, "boat"), (10, "traffic light"), (11, "fire hydrant"), (13, "stop sign"), (14, "parking meter"), (15, "bench"),
    (16, "bird"), (17, "cat"), (18, "dog"), (19, "horse"), (20, "sheep"), (21, "cow"), (22, "elephant"), (23, "bear"),
    (24, "zebra"), (25, "giraffe"), (27, "backpack"), (28, "umbrella"), (31, "handbag"), (32, "tie"), (33, "suitcase"),
    (34, "frisbee"), (35, "skis"), (36, "snowboard"), (37, "sports ball"), (38, "kite"), (39, "baseball bat"),
    (40, "baseball glove"), (41, "skateboard"), (42, "surfboard"), (43, "tennis racket"), (44, "bottle"),
    (46, "wine glass"), (47, "cup"), (48, "fork"), (49, "knife"), (50, "spoon"), (51, "bowl"), (52, "banana"),
    (53, "apple"), (54, "sandwich"), (55, "orange"), (56, "broccoli"), (57, "carrot"), (58, "hot dog"), (59, "pizza"),
    (60, "donut"), (61, "cake"), (62, "chair"), (63, "couch"), (64, "potted plant"), (65, "bed"), (67, "dining table"),
    (70, "toilet"), (72, "tv"), (73, "laptop"), (74, "mouse"), (75, "remote"), (76, "keyboard"), (77, "cell phone"),
    (78, "microwave"), (79, "oven"), (80, "toaster"), (81, "sink"), (82, "refrigerator"), (84, "book"), (85, "clock"),
    (86, "vase"), (87, "scissors"), (88, "teddy bear"), (89, "hair drier"), (90, "toothbrush"),
];

/// Of a class of a detector that counts as COCO's ids do, which start at 1 for class 0; none for an id that COCO skips.
pub fn coco_name(class: usize) -> Option<&'static str> {
    COCO.iter().find(|(id, _)| *id == class + 1).map(|(_, name)| *name)
}

/// Pascal VOC's class of a class that counts as COCO's ids do; none where VOC has none.
pub fn voc_of_coco(class: usize) -> Option<usize> {
    COCO_IDS.iter().position(|id| *id == class + 1)
}

/// What a detector's classes are called.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassNames {
    config: DetectorConfig,
    /// As a card has them; empty where there is none.
    given: Vec<String>,
}

impl ClassNames {
    /// `given`: as a card has them; empty where there is none.
    ///
    /// # Errors
    /// Other than one for each class.
    pub fn new(config: DetectorConfig, given: Vec<String>) -> Result<Self, DetectError> {
        match given.is_empty() || given.len() + 1 == config.classes {
            true => Ok(Self { config, given }),
            false => {
                let (named, outputs) = (given.len() + 1, config.classes);
                Err(DetectError::Names(format!("{named} classes with the background, not {outputs}")))
            }
        }
    }

    /// A class's name; its number where nobody has named it.
    pub fn name(&self, class: usize) -> String {
        self.known(class).map_or_else(|| format!("class {class}"), str::to_owned)
    }

    fn known(&self, class: usize) -> Option<&str> {
        match self.given.get(class) {
            Some(name) => Some(name),
            None if self.is_coco() => coco_name(class),
            None if self.is_taken_for_vocs() => VOC.get(class).copied(),
            None => None,
        }
    }

    /// For each class the set's of that name; none for one that the set has not. COCO's are known by Pascal VOC's names too.
    ///
    /// # Errors
    /// A class of the set that the detector does not know.
    pub fn in_set(&self, set: &DetectionSet) -> Result<Vec<Option<usize>>, DetectError> {
        let of_set = |name: &str| set.classes().iter().position(|of| of == name);
        let vocs = |class: usize| if self.is_coco() { voc_of_coco(class).map(|class| VOC[class]) } else { None };
        let of = |class: usize| vocs(class).and_then(of_set).or_else(|| of_set(self.known(class)?));
        let classes: Vec<Option<usize>> = (0..self.config.classes - 1).map(of).collect();
        let unknown = (0..set.classes().len()).filter(|class| !classes.contains(&Some(*class)));
        let unknown: Vec<&str> = unknown.map(|class| set.classes()[class].as_str()).collect();
        match unknown.as_slice() {
            [] => Ok(classes),
            names => {
                let reason = format!("{}: the detector knows no {}", set.name(), names.join(", "));
                Err(DetectError::Names(reason))
            }
        }
    }

    /// Whether nobody names the detector's classes.
    pub fn is_by_number(&self) -> bool {
        self.given.is_empty() && !self.is_coco()
    }

    /// Whether they are taken for Pascal VOC's, in their order, for nobody names them and they are as many.
    pub fn is_taken_for_vocs(&self) -> bool {
        self.is_by_number() && self.config.classes == VOC.len() + 1
    }

    /// Whether classes count as COCO's ids do, whose first is 1.
    pub fn is_coco(&self) -> bool {
        self.given.is_empty() && self.config.name.is_tf() && self.config.classes == 91
    }
}
