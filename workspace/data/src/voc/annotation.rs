//! One image's annotation: its size and its objects.

use std::fmt;

use roxmltree::{Document, Node, ParsingOptions};

use super::{Object, VOC_CLASSES};

/// Signs of equality in a file, which are at least as many as its attributes and namespaces: the time that reading takes grows
/// with the third power of these. An annotation has hardly any.
const MOST_ATTRIBUTES: usize = 256;

/// Characters of what a file holds that an error shows.
const SHOWN: usize = 40;

/// Why an annotation is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct AnnotationError {
    /// From 1.
    pub line: u32,
    /// The number of the `object` at fault, from 1.
    pub object: Option<usize>,
    /// In words.
    pub reason: String,
}

impl fmt::Display for AnnotationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(object) = self.object {
            write!(f, ", object {object}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

pub(super) struct Annotation {
    pub width: usize,
    pub height: usize,
    /// Where the size is said.
    pub size_line: u32,
    pub objects: Vec<Object>,
}

impl Annotation {
    /// All of it, or the first fault. Elements that are not asked for, as the `part` children of an object, are passed over
    /// with all that they hold. `classes`: the set's.
    pub fn parse(bytes: &[u8], classes: &[String]) -> Result<Self, AnnotationError> {
        let at_line = |line, reason| AnnotationError { line, object: None, reason };
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            at_line(line as u32, "holds a byte that is no UTF-8".to_string())
        })?;
        if text.trim().is_empty() {
            return Err(at_line(1, "the file is empty".to_string()));
        }
        if bytes.iter().filter(|byte| **byte == b'=').count() > MOST_ATTRIBUTES {
            return Err(at_line(1, format!("the file holds more than {MOST_ATTRIBUTES} attributes, and is not read")));
        }
        // Without a document type there are no entities that could grow.
        let options = ParsingOptions { allow_dtd: false, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text, options).map_err(|error| {
            at_line(error.pos().row, format!("no XML that is read: {}", shown(&error.to_string(), 3 * SHOWN)))
        })?;
        let reader = Reader { document: &document, classes, object: None };
        let root = document.root_element();
        if root.tag_name().name() != "annotation" {
            return Err(reader.fault(root, format!("<{}>, not <annotation>", name(root))));
        }
        // One that is not the annotation's own would be lost in silence.
        for child in root.children().filter(|child| child.is_element() && !child.has_tag_name("object")) {
            let is_object = |node: &Node| node.tag_name().name().eq_ignore_ascii_case("object");
            if let Some(node) = child.descendants().find(is_object) {
                let within = if node == child { String::new() } else { format!(" within <{}>", name(child)) };
                return Err(reader.fault(
                    node,
                    format!("<{}>{within}, where an <object> is read in <annotation> alone", name(node)),
                ));
            }
        }
        let size = reader.child(root, "size")?;
        let (width, height) = (reader.pixels(size, "width")?, reader.pixels(size, "height")?);
        let objects = root.children().filter(|node| node.has_tag_name("object")).enumerate();
        let objects = objects.map(|(place, node)| {
            Reader { document: &document, classes, object: Some(place + 1) }.object(node, (width, height))
        });
        let objects = objects.collect::<Result<_, _>>()?;
        Ok(Self { width, height, size_line: reader.line(size), objects })
    }
}

fn shown(text: &str, most: usize) -> String {
    let mut start: String = text.chars().take(most).collect();
    if start.len() < text.len() {
        start.push_str("...");
    }
    start.replace('\n', "; ")
}

fn name(node: Node<'_, '_>) -> String {
    shown(node.tag_name().name(), SHOWN)
}

/// In quotes.
fn quoted(text: &str) -> String {
    format!("{:?}", shown(text, SHOWN))
}

struct Reader<'a, 'input> {
    document: &'a Document<'input>,
    classes: &'a [String],
    object: Option<usize>,
}

impl<'a, 'input> Reader<'a, 'input> {
    fn line(&self, node: Node<'a, 'input>) -> u32 {
        self.document.text_pos_at(node.range().start).row
    }

    fn fault(&self, node: Node<'a, 'input>, reason: impl Into<String>) -> AnnotationError {
        AnnotationError { line: self.line(node), object: self.object, reason: reason.into() }
    }

    /// The only child of that name, if there is one.
    fn optional(&self, node: Node<'a, 'input>, name: &str) -> Result<Option<Node<'a, 'input>>, AnnotationError> {
        let mut children = node.children().filter(|child| child.has_tag_name(name));
        let first = children.next();
        match children.next() {
            Some(second) => Err(self.fault(second, format!("a second <{name}>"))),
            None => Ok(first),
        }
    }

    fn child(&self, node: Node<'a, 'input>, wanted: &str) -> Result<Node<'a, 'input>, AnnotationError> {
        let missing = || self.fault(node, format!("<{}> holds no <{wanted}>", name(node)));
        self.optional(node, wanted)?.ok_or_else(missing)
    }

    /// Whole: a comment would cut it in two.
    fn text(&self, node: Node<'a, 'input>) -> Result<&'a str, AnnotationError> {
        let mut children = node.children();
        match (children.next(), children.next()) {
            (None, _) => Ok(""),
            (Some(text), None) if text.is_text() => Ok(text.text().unwrap_or_default().trim()),
            _ => Err(self.fault(node, format!("<{}> holds more than text", name(node)))),
        }
    }

    fn pixels(&self, size: Node<'a, 'input>, name: &str) -> Result<usize, AnnotationError> {
        let node = self.child(size, name)?;
        let text = self.text(node)?;
        match text.parse::<u32>() {
            Ok(pixels) if pixels > 0 => Ok(pixels as usize),
            _ => Err(self.fault(node, format!("{name} {} is no number of pixels", quoted(text)))),
        }
    }

    /// False where it is not said, as the devkit has it.
    fn flag(&self, object: Node<'a, 'input>, name: &str) -> Result<bool, AnnotationError> {
        let Some(node) = self.optional(object, name)? else { return Ok(false) };
        match self.text(node)? {
            "0" => Ok(false),
            "1" => Ok(true),
            other => Err(self.fault(node, format!("{name} is {}, neither 0 nor 1", quoted(other)))),
        }
    }

    fn object(&self, node: Node<'a, 'input>, (width, height): (usize, usize)) -> Result<Object, AnnotationError> {
        let name = self.child(node, "name")?;
        let class = self.text(name)?;
        let class = self.classes.iter().position(|known| known == class).ok_or_else(|| {
            let (quoted, count) = (quoted(class), self.classes.len());
            let reason = match self.classes.iter().map(String::as_str).eq(VOC_CLASSES) {
                true => format!("{quoted} is not among VOC's {count} classes; others are named by a classes.txt"),
                false => format!("{quoted} is not among the {count} of classes.txt"),
            };
            self.fault(name, reason)
        })?;
        let bounds = self.child(node, "bndbox")?;
        let [left, right] = self.span(bounds, ["xmin", "xmax"], width)?;
        let [top, bottom] = self.span(bounds, ["ymin", "ymax"], height)?;
        Ok(Object {
            class: class as u32,
            bounds: [left, top, right, bottom],
            difficult: self.flag(node, "difficult")?,
            // Of older years some are "Unspecified"; nothing here depends on it.
            truncated: self.flag(node, "truncated").or_else(|fault| match self.child(node, "truncated") {
                Ok(said) if self.text(said)? == "Unspecified" => Ok(false),
                _ => Err(fault),
            })?,
        })
    }

    /// From pixels, counted from 1 and with both ends, to the fractions where they begin and end.
    fn span(&self, bounds: Node<'a, 'input>, names: [&str; 2], pixels: usize) -> Result<[f32; 2], AnnotationError> {
        let [first, last] = [self.place(bounds, names[0], pixels)?, self.place(bounds, names[1], pixels)?];
        if first > last {
            return Err(self.fault(bounds, format!("{} {first} is beyond {} {last}", names[0], names[1])));
        }
        Ok([first - 1.0, last].map(|edge| (edge / pixels as f64) as f32))
    }

    fn place(&self, bounds: Node<'a, 'input>, name: &str, pixels: usize) -> Result<f64, AnnotationError> {
        let node = self.child(bounds, name)?;
        let text = self.text(node)?;
        match text.parse::<f64>() {
            Ok(place) if (1.0..=pixels as f64).contains(&place) => Ok(place),
            Ok(place) if place.is_finite() => {
                Err(self
                    .fault(node, format!("{name} {place} is outside the image, whose pixels run from 1 to {pixels}")))
            }
            _ => Err(self.fault(node, format!("{name} {} is no number", quoted(text)))),
        }
    }
}
