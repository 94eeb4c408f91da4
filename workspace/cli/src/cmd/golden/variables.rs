//! Tensors by name, and what is read back once an output is computed from them.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, ensure};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;

use super::kinds::Outputs;

/// Inputs and parameters.
pub struct Variables(BTreeMap<String, Var>);

impl Variables {
    /// Of names, shapes and values.
    pub fn new<'a>(arrays: impl IntoIterator<Item = (&'a str, &'a [usize], &'a [f32])>) -> anyhow::Result<Self> {
        let variable = |(name, shape, values): (&str, &[usize], &[f32])| {
            ensure!(!values.is_empty(), "{name} is empty: shape {shape:?}");
            let variable = Var::from_slice(values, shape, &Device::Cpu).with_context(|| name.to_owned())?;
            Ok((name.to_owned(), variable))
        };
        Ok(Self(arrays.into_iter().map(variable).collect::<anyhow::Result<_>>()?))
    }

    pub fn get(&self, name: &str) -> anyhow::Result<&Var> {
        self.0.get(name).with_context(|| format!("no {name}"))
    }

    pub fn builder(&self) -> VarBuilder<'static> {
        let tensors: HashMap<_, _> =
            self.0.iter().map(|(name, variable)| (name.clone(), variable.as_tensor().clone())).collect();
        VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
    }

    /// The output, the gradients of sum(output * cotangent), and the running statistics as they are now.
    pub fn outputs(&self, output: &Tensor, cotangent: Option<&[f32]>) -> anyhow::Result<Outputs> {
        let mut outputs = Outputs::from([("output".to_owned(), values(output)?)]);
        if let Some(cotangent) = cotangent {
            let cotangent = Tensor::from_slice(cotangent, output.dims(), &Device::Cpu).context("cotangent")?;
            let gradients = (output * cotangent)?.sum_all()?.backward()?;
            for (name, variable) in &self.0 {
                // candle keeps no gradient of what takes no part.
                let gradient = gradients.get(variable).map_or_else(|| Ok(vec![0.0; variable.elem_count()]), values)?;
                outputs.insert(format!("grad.{name}"), gradient);
            }
        }
        for (name, variable) in self.0.iter().filter(|(name, _)| name.contains("running_")) {
            outputs.insert(format!("running.{name}"), values(variable)?);
        }
        Ok(outputs)
    }
}

fn values(tensor: &Tensor) -> anyhow::Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}
