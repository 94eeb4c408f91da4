//! The bytes of a pickle: its operations, what follows each, and which values it comes back to.

use crate::checkpoint::Problem;

/// What follows an operation in the pickle.
enum Argument {
    Nothing,
    Bytes(usize),
    /// A length of so many bytes, then as many bytes as it says.
    Counted(usize),
    Lines(usize),
}

fn argument(operation: u8) -> Option<Argument> {
    Some(match operation {
        b'.'
        | b'('
        | b'0'
        | b'1'
        | b'N'
        | 0x88
        | 0x89
        | b']'
        | 0x8f
        | 0x93
        | b')'
        | 0x85..=0x87
        | b't'
        | b'}'
        | b's'
        | b'u'
        | b'a'
        | b'e'
        | 0x90
        | 0x91
        | 0x94
        | b'Q'
        | b'R'
        | 0x81
        | 0x92
        | b'b' => Argument::Nothing,
        0x80 | b'K' | b'q' | b'h' => Argument::Bytes(1),
        b'M' => Argument::Bytes(2),
        b'J' | b'r' | b'j' => Argument::Bytes(4),
        0x95 | b'G' => Argument::Bytes(8),
        0x8a | 0x8c | b'C' | b'U' => Argument::Counted(1),
        0x8b | b'X' | b'B' | b'T' => Argument::Counted(4),
        0x8d | 0x8e | 0x96 => Argument::Counted(8),
        b'c' => Argument::Lines(2),
        _ => return None,
    })
}

#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Reader<'a> {
    pub fn damaged(&self, what: &'static str) -> Problem {
        Problem::Pickle { at: self.at, what }
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Problem> {
        let bytes = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end));
        let bytes = bytes.ok_or_else(|| self.damaged("it ends too early"))?;
        self.at += count;
        Ok(bytes)
    }

    pub fn u8(&mut self) -> Result<u8, Problem> {
        self.take(1).map(|bytes| bytes.first().copied().unwrap_or(0))
    }

    /// A little-endian number of up to 8 bytes.
    pub fn number(&mut self, width: usize) -> Result<u64, Problem> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    pub fn counted(&mut self, width: usize) -> Result<&'a [u8], Problem> {
        let count = usize::try_from(self.number(width)?).map_err(|_| self.damaged("it ends too early"))?;
        self.take(count)
    }

    pub fn line(&mut self) -> Result<&'a str, Problem> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or_else(|| self.damaged("it ends too early"))?;
        let line = std::str::from_utf8(self.take(end)?).map_err(|_| self.damaged("a name that is not UTF-8"))?;
        self.take(1)?;
        Ok(line)
    }

    /// Reads to the pickle's end and gives the keys of values that it comes back to.
    pub fn recalled(&mut self) -> Result<Keys, Problem> {
        let mut keys = Keys::default();
        loop {
            let operation = self.u8()?;
            let Some(argument) = argument(operation) else {
                return Err(self.damaged("an operation that torch.save does not write"));
            };
            match (operation, argument) {
                (b'.', _) => return Ok(keys),
                (b'h' | b'j', Argument::Bytes(width)) => {
                    let key = self.number(width)? as usize;
                    // Picklers count; so many are in no pickle of this length.
                    if key >= self.bytes.len() {
                        return Err(self.damaged("a value is missing"));
                    }
                    keys.insert(key);
                }
                (_, Argument::Nothing) => {}
                (_, Argument::Bytes(count)) => drop(self.take(count)?),
                (_, Argument::Counted(width)) => drop(self.counted(width)?),
                (_, Argument::Lines(count)) => {
                    for _ in 0..count {
                        self.line()?;
                    }
                }
            }
        }
    }
}

/// A set of small numbers, a bit for each.
#[derive(Default)]
pub(super) struct Keys(Vec<u64>);

impl Keys {
    fn insert(&mut self, key: usize) {
        if key / 64 >= self.0.len() {
            self.0.resize(key / 64 + 1, 0);
        }
        self.0[key / 64] |= 1 << (key % 64);
    }

    pub fn contains(&self, key: usize) -> bool {
        self.0.get(key / 64).is_some_and(|keys| keys >> (key % 64) & 1 == 1)
    }
}
