//! `flex`, the CPU backend, with the kernels of `hrm-kernels`.

impl crate::HrmBackend for burn_flex::Flex {
    const WIDEST_FLOAT: burn::tensor::DType = burn::tensor::DType::F64;
}
