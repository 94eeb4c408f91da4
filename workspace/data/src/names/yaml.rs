//! YAML as JSON, as far as cards on the hub need it.

use granit_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// Cards nest some eight levels deep.
const DEEPEST: usize = 32;

/// None of what is no YAML, or no plain one: aliases, by which few bytes are many values, several documents, keys that are not
/// texts, and keys that occur twice. Nothing but white space and comments is null. What `PyYAML` takes for a number is one here,
/// as far as its form is decimal.
pub(super) fn read(text: &str) -> Option<Value> {
    let mut events = Events(Parser::new_from_str(text));
    match (events.next()?, events.next()?) {
        (Event::StreamStart, Event::StreamEnd) => return Some(Value::Null),
        (Event::StreamStart, Event::DocumentStart(..)) => {}
        _ => return None,
    }
    let first = events.next()?;
    let value = events.node(first, 0)?;
    match (events.next()?, events.next()?) {
        (Event::DocumentEnd, Event::StreamEnd) => Some(value),
        _ => None,
    }
}

struct Events<'a>(Parser<'a, granit_parser::StrInput<'a>>);

impl<'a> Events<'a> {
    fn next(&mut self) -> Option<Event<'a>> {
        self.0.next()?.ok().map(|(event, _)| event)
    }

    /// The value that begins with `event`.
    fn node(&mut self, event: Event<'a>, depth: usize) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) => Some(plain(&text)),
            Event::Scalar(text, ..) => Some(Value::String(text.into_owned())),
            Event::SequenceStart(..) => {
                let mut values = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => return Some(Value::Array(values)),
                        event => values.push(self.node(event, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut values = Map::new();
                loop {
                    let key = match self.next()? {
                        Event::MappingEnd => return Some(Value::Object(values)),
                        Event::Scalar(key, ..) => key.into_owned(),
                        _ => return None,
                    };
                    let event = self.next()?;
                    if values.insert(key, self.node(event, depth + 1)?).is_some() {
                        return None;
                    }
                }
            }
            _ => None,
        }
    }
}

/// A text without quotes, where it is none: `no` and `1.50` are no names of classes to who reads them elsewhere.
fn plain(text: &str) -> Value {
    match text.to_lowercase().as_str() {
        "" | "~" | "null" => Value::Null,
        "yes" | "true" | "on" => Value::Bool(true),
        "no" | "false" | "off" => Value::Bool(false),
        small => small.parse::<f64>().map_or_else(|_| Value::String(text.to_owned()), Value::from),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cards_hold_is_read() {
        let text = "# a card\na:\n- x: 'no'\n  y: [no, \"1\", 1, two words]\n0: |\n  lines\nb: {c: ~, d: }\n";
        let value = json!({
            "a": [{"x": "no", "y": [false, "1", 1.0, "two words"]}],
            "0": "lines\n",
            "b": {"c": null, "d": null},
        });
        assert_eq!(read(text), Some(value));
        assert_eq!((read(""), read("# none")), (Some(Value::Null), Some(Value::Null)));
    }

    #[test]
    fn what_is_no_plain_yaml_is_not_read() {
        let deep = "[".repeat(100_000);
        let nested = "- ".repeat(40) + "x";
        let alias = "a: &a [x, x]\nb: [*a, *a]";
        for text in
            ["a: [", "a: 1\na: 2", alias, "a: 1\n---\nb: 2", "? [a]\n: b", "a: b: c", "\t- x\n y", &deep, &nested]
        {
            assert_eq!(read(text), None, "{}", &text[..text.len().min(20)]);
        }
    }
}
