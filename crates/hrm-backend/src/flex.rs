//! `flex`, the CPU backend, with the kernels of `hrm-kernels`.

impl crate::HrmBackend for burn_flex::Flex {}
