//! What the calls in a pickle of `torch.save` make: storages, tensors, and the dicts that hold them.

use std::fmt;

use super::value::{Id, OPAQUE, Object, Slot, Storage, Value};
use super::{Contents, MAX_OTHERS, Machine, View};
use crate::checkpoint::{MAX_DIMS, MAX_NAME, MAX_TENSORS, NoTensor, Problem, StoredType};

/// Dicts within dicts; a dict may hold itself.
const MAX_DEPTH: usize = 8;
/// Lists and objects with tensors that are told of, and a dict's more.
const MAX_UNNAMED: usize = 64;
/// Dicts and their items that are looked at, each as often as something holds it.
const MAX_VISITS: usize = 1 << 16;

impl<'a> Machine<'a> {
    /// `('storage', torch.FloatStorage, key, device, elements)`; in the old form with a view of the storage behind, which
    /// is None or `(key, first, elements)`.
    pub(super) fn persistent(&mut self) -> Result<(), Problem> {
        let id = self.pop()?;
        let storage = match self.fields(id) {
            Some([_, class, key, rest @ ..]) => match (self.value(*class), self.value(*key)) {
                (Value::Global(class), Value::Text(key)) => {
                    let view = rest.get(2).and_then(|view| self.fields(*view)?.get(1));
                    let first = view.map_or(Some(0), |first| self.size(*first));
                    first.map(|first| (*key, storage_type(class), first))
                }
                _ => None,
            },
            _ => None,
        };
        let (key, (dtype, item), first) = storage.ok_or_else(|| self.damaged("a storage without type or key"))?;
        self.storages.insert(key, item);
        self.push(Value::Storage(Box::new(Storage { key, dtype, first })))
    }

    /// A call: of what makes a dict or a tensor; all else is an object of some class.
    pub(super) fn reduce(&mut self) -> Result<(), Problem> {
        let (mut arguments, mut callee) = (self.pop()?, self.pop()?);
        // A tensor of a subclass, or one with attributes: the function and its arguments are among the arguments.
        if let (Value::Global("_rebuild_from_type_v2"), Some(&[function, _, inner, ..])) =
            (self.value(callee), self.fields(arguments))
        {
            (callee, arguments) = (function, inner);
        }
        let result = match (self.value(callee), self.fields(arguments)) {
            (Value::Global("OrderedDict"), _) => Value::Dict(Box::default()),
            (
                Value::Global("_rebuild_tensor_v2" | "_rebuild_tensor"),
                Some([storage, offset, shape, strides, rest @ ..]),
            ) => {
                // Written only where a tensor is stored as the negative, or the conjugate, of itself.
                if rest.get(2).is_some_and(|metadata| matches!(self.value(*metadata), Value::Dict(_))) {
                    return Err(Problem::Negated);
                }
                let view = self.view(*storage, *offset, *shape, *strides);
                Value::Tensor(Box::new(view.ok_or_else(|| self.damaged("a tensor whose parts are not numbers"))?))
            }
            // The parameter is its tensor.
            (Value::Global("_rebuild_parameter" | "_rebuild_parameter_with_state"), Some([tensor, ..])) => {
                let tensor = *tensor;
                return self.stack_up(Slot::Id(tensor));
            }
            // As counters and frozen dicts are made: of the dict that they are.
            (_, Some(&[only])) if matches!(self.value(only), Value::Dict(dict) if dict.may_lead_to_tensors()) => {
                return self.stack_up(Slot::Id(only));
            }
            _ => return self.object(callee),
        };
        self.push(result)
    }

    fn fields(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::Tuple(ids) => Some(ids),
            _ => None,
        }
    }

    fn view(&self, storage: Id, offset: Id, shape: Id, strides: Id) -> Option<View<'a>> {
        let Value::Storage(storage) = self.value(storage) else { return None };
        let Storage { key, dtype, first } = **storage;
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        Some(View { storage: key, dtype, offset: self.size(offset)?.checked_add(first)?, shape, strides })
    }

    fn size(&self, id: Id) -> Option<usize> {
        match *self.value(id) {
            Value::Int(size) => usize::try_from(size).ok(),
            _ => None,
        }
    }

    fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        let ids = self.fields(id).filter(|ids| ids.len() <= MAX_DIMS)?;
        ids.iter().map(|&id| self.size(id)).collect()
    }

    /// The tensors below a dict, whatever its keys.
    ///
    /// # Errors
    /// More tensors or dicts than a checkpoint may have: what is left out might be a state.
    pub(super) fn contents(self, root: Id) -> Result<Contents<'a>, Problem> {
        let (mut tensors, mut unnamed, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let mut dicts = vec![(String::new(), root, 0)];
        let mut visits = 0;
        while let Some((path, id, depth)) = dicts.pop() {
            visits += 1;
            let Value::Dict(dict) = self.value(id) else { continue };
            let named = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            if unnamed.len() < MAX_UNNAMED {
                unnamed.extend((dict.keyless > 0).then(|| (path.clone(), dict.keyless)));
                unnamed.extend(dict.unnamed.iter().map(|(name, tensors)| (named(name), *tensors)));
            }
            if others.len() < MAX_UNNAMED {
                let what = |object: &Option<Object>| object.map_or_else(|| "no tensor".to_owned(), |of| of.to_string());
                others.extend(dict.others.iter().map(|(name, of)| NoTensor { name: named(name), what: what(of) }));
            }
            for &(name, id) in &dict.items {
                visits += 1;
                if visits + dicts.len() > MAX_VISITS || tensors.len() >= MAX_TENSORS {
                    return Err(Problem::TooMany(MAX_TENSORS));
                }
                if path.len() + name.len() >= MAX_NAME {
                    continue;
                }
                let name = named(name);
                match self.value(id) {
                    Value::Tensor(view) => tensors.push((name, (**view).clone())),
                    _ if depth < MAX_DEPTH => dicts.push((name, id, depth + 1)),
                    _ => {}
                }
            }
        }
        let found = self.found(root);
        Ok(Contents { tensors, unnamed, others, found, storages: self.storages })
    }

    fn found(&self, root: Id) -> String {
        match self.value(root) {
            Value::Dict(dict) => {
                let others = dict.others.iter().map(|(key, object)| match object {
                    Some(object) if object.tensors > 0 => format!("{key} ({object}: save its state_dict())"),
                    Some(object) => format!("{key} ({object})"),
                    None => (*key).to_owned(),
                });
                let items = dict.items.iter().map(|(key, _)| (*key).to_owned());
                let keys: Vec<String> = items.chain(others).take(MAX_OTHERS).collect();
                match keys.is_empty() {
                    false => format!("a dict of {}", keys.join(", ")),
                    true if dict.keyless > 0 => {
                        "a dict whose keys are no texts: save one of its states alone".to_owned()
                    }
                    true => "an empty dict".to_owned(),
                }
            }
            Value::Object(object) => format!("{object}: save its state_dict()"),
            Value::Tensor(_) => "one tensor without a name".to_owned(),
            Value::Tuple(ids) => format!("a tuple of {}: save its dict alone", ids.len()),
            Value::List(_) => "a list: save its dict alone".to_owned(),
            _ if root == OPAQUE => "a number or nothing: save its dict alone".to_owned(),
            _ => "no dict".to_owned(),
        }
    }
}

impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of class {}", self.class)
    }
}

/// As it is read here, and the bytes of an element.
fn storage_type(class: &str) -> (StoredType, Option<usize>) {
    match class {
        "HalfStorage" => (StoredType::F16, Some(2)),
        "BFloat16Storage" => (StoredType::Bf16, Some(2)),
        "FloatStorage" => (StoredType::F32, Some(4)),
        "DoubleStorage" => (StoredType::F64, Some(8)),
        "ByteStorage" | "CharStorage" | "BoolStorage" | "QInt8Storage" | "QUInt8Storage" | "UntypedStorage" => {
            (StoredType::Other, Some(1))
        }
        "ShortStorage" => (StoredType::Other, Some(2)),
        "IntStorage" | "QInt32Storage" => (StoredType::Other, Some(4)),
        "LongStorage" | "ComplexFloatStorage" => (StoredType::Other, Some(8)),
        "ComplexDoubleStorage" => (StoredType::Other, Some(16)),
        _ => (StoredType::Other, None),
    }
}
