//! The parameters of a module by the original's names.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Tensor, backend::Backend},
};

use crate::weights::original_name;

/// Looks at parameters, see [`visit_named`].
pub trait NamedVisitor<B: Backend> {
    /// Called for each float parameter.
    fn visit<const D: usize>(&mut self, name: String, param: &Param<Tensor<B, D>>);
}

/// Replaces parameters, see [`map_named`].
pub trait NamedMapper<B: Backend> {
    /// Called for each float parameter.
    fn map<const D: usize>(&mut self, name: String, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>>;
}

/// Shows `visitor` every float parameter, trained or not, in the order of the module's fields, under its name in the
/// original's state dict (`H_level.layers.0.self_attn.qkv_proj.weight`).
pub fn visit_named<B: Backend, M: Module<B>>(module: &M, visitor: &mut impl NamedVisitor<B>) {
    module.visit(&mut Walk { path: Vec::new(), inner: visitor });
}

/// The module with every float parameter replaced by what `mapper` makes of it; names as in [`visit_named`].
pub fn map_named<B: Backend, M: Module<B>>(module: M, mapper: &mut impl NamedMapper<B>) -> M {
    module.map(&mut Walk { path: Vec::new(), inner: mapper })
}

/// Keeps track of where in the module Burn's walk stands.
struct Walk<'a, T> {
    path: Vec<String>,
    inner: &'a mut T,
}

impl<T> Walk<'_, T> {
    fn name(&self) -> String {
        original_name(&self.path.join("."))
    }
}

impl<B: Backend, T: NamedVisitor<B>> ModuleVisitor<B> for Walk<'_, T> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.inner.visit(self.name(), param);
    }
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}

impl<B: Backend, T: NamedMapper<B>> ModuleMapper<B> for Walk<'_, T> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let name = self.name();
        self.inner.map(name, param)
    }
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}
