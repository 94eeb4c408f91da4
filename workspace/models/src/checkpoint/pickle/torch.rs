//! What the calls in a pickle of `torch.save` make: storages, tensors, and the state dict that holds them.

use super::{Id, Machine, Value, View};
use crate::checkpoint::{MAX_DIMS, MAX_TENSORS, Problem, StoredType};

impl<'a> Machine<'a> {
    /// `('storage', torch.FloatStorage, key, device, elements)`.
    pub(super) fn persistent(&mut self) -> Result<(), Problem> {
        let id = self.pop()?;
        let storage = match self.fields(id) {
            Some([_, class, key, ..]) => match (self.value(*class), self.value(*key)) {
                (Value::Global(class), Value::Text(key)) => Some(Value::Storage { key, dtype: storage_type(class) }),
                _ => None,
            },
            _ => None,
        };
        let storage = storage.ok_or_else(|| self.damaged("a storage without type or key"))?;
        self.push(storage)
    }

    /// A call: of what makes a dict or a tensor; all else is opaque.
    pub(super) fn reduce(&mut self) -> Result<(), Problem> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let result = match (self.value(callee), self.fields(arguments)) {
            (Value::Global("OrderedDict"), _) => Value::Dict(Vec::new()),
            (Value::Global("_rebuild_tensor_v2"), Some([storage, offset, shape, strides, ..])) => {
                let view = self.view(*storage, *offset, *shape, *strides);
                Value::Tensor(view.ok_or_else(|| self.damaged("a tensor whose parts are not numbers"))?)
            }
            // The parameter is its tensor.
            (Value::Global("_rebuild_parameter" | "_rebuild_parameter_with_state"), Some([tensor, ..])) => {
                self.stack.push(Some(*tensor));
                return Ok(());
            }
            _ => Value::Opaque,
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
        let Value::Storage { key, dtype } = *self.value(storage) else { return None };
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        Some(View { storage: key, dtype, offset: self.size(offset)?, shape, strides })
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

    /// The tensors of a dict, or of the state dict that it holds beside other things.
    pub(super) fn tensors(self, root: Id) -> Result<Vec<(&'a str, View<'a>)>, Problem> {
        let mut dict = root;
        // Depth is bounded: a dict may hold itself.
        for _ in 0..4 {
            let inner = ["state_dict", "model_state_dict", "model"].iter().find_map(|key| self.item(dict, key));
            match inner {
                Some(inner) => dict = inner,
                None => break,
            }
        }
        let Value::Dict(pairs) = self.value(dict) else { return Err(Problem::NoStateDict) };
        let tensors: Vec<_> = pairs
            .iter()
            .filter_map(|(key, value)| match (self.value(*key), self.value(*value)) {
                (Value::Text(name), Value::Tensor(view)) => Some((*name, view.clone())),
                _ => None,
            })
            .take(MAX_TENSORS + 1)
            .collect();
        if tensors.is_empty() { Err(Problem::NoStateDict) } else { Ok(tensors) }
    }

    /// A dict within a dict.
    fn item(&self, dict: Id, key: &str) -> Option<Id> {
        let Value::Dict(pairs) = self.value(dict) else { return None };
        let named = |id: Id| matches!(self.value(id), Value::Text(text) if *text == key);
        let (_, id) = pairs.iter().find(|(k, v)| named(*k) && matches!(self.value(*v), Value::Dict(_)))?;
        Some(*id)
    }
}

fn storage_type(class: &str) -> StoredType {
    match class {
        "HalfStorage" => StoredType::F16,
        "BFloat16Storage" => StoredType::Bf16,
        "FloatStorage" => StoredType::F32,
        "DoubleStorage" => StoredType::F64,
        _ => StoredType::Other,
    }
}
