//! Matrix products of the CubeCL backends: on CUDA by cuBLASLt where it is installed, else by one kernel of cubek's that is named
//! rather than found.
//!
//! Burn's autotune times some thirty kernels for every new shape, and each is compiled first: on an H200 not one step of a
//! training was done after 110 seconds. The kernel here is the one that `benches/src/bin/products.rs` found the fastest at the
//! shapes of reasoning models; [`KERNEL_VARIABLE`] names another.

use std::{env, sync::OnceLock};

use burn::tensor::{DType, Shape, TensorMetadata};
use burn_cubecl::{
    CubeRuntime, cubecl::features::Tma, kernel::matmul::init_matmul_output, tensor::CubeTensor,
};
use cubek::{
    matmul::{
        components::tile::TileMatmulKind,
        definition::{MatmulElems, MatmulGlobalElems, MatmulSetupError},
        launch::{Strategy, launch_ref},
        routines::{
            BlueprintStrategy, double_buffering::DoubleBufferingArgs,
            ordered_double_buffering::OrderedSelectionArgs, simple::SimpleArgs,
        },
    },
    std::InputBinding,
};

/// The environment variable that names the kernel for matrix products on tensor cores: one of [`KERNELS`].
pub const KERNEL_VARIABLE: &str = "HRM_MATMUL_KERNEL";

/// NVIDIA's library, and cubek's kernels for tensor cores as it names them.
pub const KERNELS: [&str; 15] = [
    CUBLAS,
    "simple-cyclic-cmma",
    "simple-cyclic-mma",
    "simple-rows-cmma",
    "simple-rows-mma",
    "double-cyclic-cmma",
    "double-cyclic-mma",
    "double-specialized-mma",
    "ordered-double-cmma",
    "ordered-double-mma",
    "specialized-cyclic-mma",
    "simple-tma-mma",
    "simple-tma-rows-mma",
    "double-tma-mma",
    "specialized-tma-mma",
];

const CUBLAS: &str = "cublas";

/// What becomes of fp32 operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Precision {
    /// They are taken as they are.
    Exact,
    /// They may be rounded to TF32's 11 bits.
    Rounded,
}

/// The kernels of cubek's to try where nothing else is asked for, best first: docs/benchmarks/2026-11-26-gpu.md. `one_tile`: the output is
/// no larger than that, as for a head; `turned`: the second operand is the transpose of what lies in memory, as weights are.
fn best(one_tile: bool, turned: bool, columns: usize) -> &'static [&'static str] {
    match (one_tile, turned) {
        (true, true) => &["simple-cyclic-cmma"],
        (true, false) => &["simple-tma-mma", "simple-cyclic-cmma"],
        (false, false) if columns > 2 * TILE => {
            &["double-tma-mma", "specialized-cyclic-mma", "simple-cyclic-cmma"]
        }
        (false, _) => &["specialized-tma-mma", "double-cyclic-mma", "simple-cyclic-cmma"],
    }
}

fn strategy(name: &str) -> Option<Strategy> {
    use TileMatmulKind::{Cmma, Mma};
    let simple =
        |multi_rows, tile_matmul| BlueprintStrategy::Inferred(SimpleArgs { tile_matmul, multi_rows });
    let ordered = |tile_matmul| {
        BlueprintStrategy::Inferred(OrderedSelectionArgs {
            tile_matmul,
            partition_k: Some(2),
            row_count: Some(8),
            rows_per_plane: Some(2),
        })
    };
    let double = |specialized, tile_matmul| {
        BlueprintStrategy::Inferred(DoubleBufferingArgs { tile_matmul, specialized })
    };
    Some(match name {
        "simple-cyclic-cmma" => Strategy::SimpleCyclicCmma(simple(false, Cmma)),
        "simple-cyclic-mma" => Strategy::SimpleCyclicMma(simple(false, Mma)),
        "simple-rows-cmma" => Strategy::SimpleCyclicCmma(simple(true, Cmma)),
        "simple-rows-mma" => Strategy::SimpleCyclicMma(simple(true, Mma)),
        "double-cyclic-cmma" => Strategy::DoubleCyclicCmma(double(false, Cmma)),
        "double-cyclic-mma" => Strategy::DoubleCyclicMma(double(false, Mma)),
        "double-specialized-mma" => Strategy::DoubleCyclicMma(double(true, Mma)),
        "ordered-double-cmma" => Strategy::OrderedDoubleCmma(ordered(Cmma)),
        "ordered-double-mma" => Strategy::OrderedDoubleMma(ordered(Mma)),
        "specialized-cyclic-mma" => Strategy::SpecializedCyclicMma(BlueprintStrategy::Inferred(().into())),
        "simple-tma-mma" => Strategy::SimpleTmaMma(BlueprintStrategy::Inferred(SimpleArgs {
            tile_matmul: Mma,
            multi_rows: false,
        })),
        "simple-tma-rows-mma" => Strategy::SimpleTmaMma(BlueprintStrategy::Inferred(SimpleArgs {
            tile_matmul: Mma,
            multi_rows: true,
        })),
        "double-tma-mma" => Strategy::DoubleTmaMma(BlueprintStrategy::Inferred(DoubleBufferingArgs {
            tile_matmul: Mma,
            specialized: false,
        })),
        "specialized-tma-mma" => Strategy::SpecializedTmaMma(BlueprintStrategy::Inferred(().into())),
        _ => return None,
    })
}

/// The kernel that the user asked for.
///
/// # Errors
/// If [`KERNEL_VARIABLE`] names no kernel, or NVIDIA's library where that is not installed.
pub(crate) fn read_kernel_variable() -> Result<Option<&'static str>, String> {
    let Some(name) = env::var_os(KERNEL_VARIABLE) else { return Ok(None) };
    let known = KERNELS.into_iter().find(|kernel| *kernel == name);
    let Some(kernel) = known else {
        return Err(format!("{KERNEL_VARIABLE}={name:?}: expected one of {}", KERNELS.join(", ")));
    };
    #[cfg(feature = "cuda")]
    if kernel == CUBLAS && !super::cublas::is_present() {
        return Err(format!(
            "{KERNEL_VARIABLE}={CUBLAS}: found no libcublasLt where the system looks for libraries, nor in a Python environment \
             (nvidia/*/lib): install the CUDA toolkit or `pip install nvidia-cublas`, name its folder in LD_LIBRARY_PATH, or unset \
             {KERNEL_VARIABLE}"
        ));
    }
    Ok(Some(kernel))
}

/// The kernel that the user asked for.
///
/// # Panics
/// If there is none such and nobody asked [`check_environment`](super::check_environment) before: there is nobody to hand an
/// error to in the middle of a product.
fn asked_for() -> Option<&'static str> {
    static NAME: OnceLock<Option<&str>> = OnceLock::new();
    *NAME.get_or_init(|| read_kernel_variable().unwrap_or_else(|error| panic!("{error}")))
}

/// The product of the last two axes, in `dtype`, by a kernel of [`KERNELS`].
///
/// # Errors
/// If the kernel does not take these operands or the device lacks what it needs.
///
/// # Shapes
/// - `[.., m, k]`, `[.., k, n]` with equal leading axes; output: `[.., m, n]`
pub fn product_by<R: CubeRuntime>(
    kernel: &str,
    lhs: CubeTensor<R>,
    rhs: CubeTensor<R>,
    dtype: DType,
) -> Result<CubeTensor<R>, String> {
    if kernel == CUBLAS {
        return library_product(&lhs, &rhs, dtype, Precision::Rounded)
            .ok_or_else(|| "not CUDA, or no cuBLASLt, or it does not take these operands".to_owned());
    }
    let strategy = strategy(kernel).ok_or_else(|| format!("no kernel {kernel}"))?;
    let out = init_matmul_output(&lhs, &rhs, dtype);
    launch(&strategy, lhs, rhs, &out).map_err(|error| format!("{error:?}"))?;
    Ok(out)
}

/// Whether products on CUDA are cuBLASLt's: it is installed, and [`KERNEL_VARIABLE`] names nothing else.
#[cfg(feature = "cuda")]
pub fn uses_cublas() -> bool {
    asked_for().is_none_or(|kernel| kernel == CUBLAS) && super::cublas::is_present()
}

/// How many products another kernel computed although cuBLASLt is installed. Each kind of them is told on standard error once.
#[cfg(feature = "cuda")]
pub fn cublas_fallbacks() -> u64 {
    super::cublas::fallbacks()
}

/// The product of the last two axes, in `dtype`, by NVIDIA's library: if this is CUDA, the library is there and takes the
/// operands, and the user did not ask for another kernel.
pub(crate) fn library_product<R: CubeRuntime>(
    lhs: &CubeTensor<R>,
    rhs: &CubeTensor<R>,
    dtype: DType,
    precision: Precision,
) -> Option<CubeTensor<R>> {
    if asked_for().is_some_and(|kernel| kernel != CUBLAS) {
        return None;
    }
    #[cfg(feature = "cuda")]
    return super::cublas::product(lhs, rhs, dtype, precision);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = (lhs, rhs, dtype, precision);
        None
    }
}

fn launch<R: CubeRuntime>(
    strategy: &Strategy,
    lhs: CubeTensor<R>,
    rhs: CubeTensor<R>,
    out: &CubeTensor<R>,
) -> Result<(), MatmulSetupError> {
    let (lhs_type, rhs_type) = (lhs.dtype, rhs.dtype);
    let mut types = MatmulElems::from_globals(&MatmulGlobalElems {
        lhs: lhs_type.into(),
        rhs: rhs_type.into(),
        out: out.dtype.into(),
    });
    launch_ref(
        strategy,
        &out.client,
        InputBinding::new(lhs.binding(), lhs_type.into()),
        InputBinding::new(rhs.binding(), rhs_type.into()),
        out.clone().binding(),
        &mut types,
    )
}

/// The product of the last two axes, in `dtype`, fp32 operands rounded to TF32: by the best kernel that takes the operands.
pub(crate) fn product<R: CubeRuntime>(lhs: CubeTensor<R>, rhs: CubeTensor<R>, dtype: DType) -> CubeTensor<R> {
    if let Some(out) = library_product(&lhs, &rhs, dtype, Precision::Rounded) {
        return out;
    }
    let out = init_matmul_output(&lhs, &rhs, dtype);
    let rank = out.shape().num_dims();
    let [rows, columns] = [out.shape()[rank - 2], out.shape()[rank - 1]];
    let best = best(rows <= TILE && columns <= TILE, rhs.meta.strides()[rank - 1] != 1, columns);
    // cubek notices only when it compiles, too late for another kernel, that a device (before Hopper) has no TMA.
    let has_tma = out.client.properties().features.tma.contains(Tma::Base);
    let named = asked_for().into_iter().chain(best.iter().copied());
    for strategy in named.filter(|name| has_tma || !name.contains("tma")).filter_map(strategy) {
        if launch(&strategy, lhs.clone(), rhs.clone(), &out).is_ok() {
            return out;
        }
    }
    without_tensor_cores(lhs, rhs, out)
}

/// The product of the last two axes, of fp32 operands in full precision. Tensor cores round them to TF32; and with products of
/// parts that they take as they are ([`plain::split_product`](crate::plain::split_product)), ten training steps missed parity on
/// an H200.
pub(crate) fn exact_product<R: CubeRuntime>(lhs: CubeTensor<R>, rhs: CubeTensor<R>) -> CubeTensor<R> {
    if let Some(out) = library_product(&lhs, &rhs, lhs.dtype, Precision::Exact) {
        return out;
    }
    let out = init_matmul_output(&lhs, &rhs, lhs.dtype);
    without_tensor_cores(lhs, rhs, out)
}

fn without_tensor_cores<R: CubeRuntime>(
    lhs: CubeTensor<R>,
    rhs: CubeTensor<R>,
    out: CubeTensor<R>,
) -> CubeTensor<R> {
    let unit = Strategy::SimpleUnit(Default::default());
    if launch(&unit, lhs.clone(), rhs.clone(), &out).is_err() {
        launch(&Strategy::Naive, lhs, rhs, &out).expect("the naive kernel takes everything");
    }
    out
}

/// Tiles of an output that a GPU should have to work on: a few for each of its multiprocessors.
const TILES: usize = 512;
/// Side of a tile, roughly.
const TILE: usize = 128;
/// Rows that are worth a product of their own.
const ROWS: usize = 512;

/// `dy^T x`, the gradient of a weight: small, of operands with very many rows. So that more than a few multiprocessors work on
/// it, groups of rows are multiplied on their own, and their products added in fp32.
pub(crate) fn grouped_rows<R: CubeRuntime>(dy: &CubeTensor<R>, x: &CubeTensor<R>) -> Option<(usize, usize)> {
    let [rows, outputs] = dy.shape().dims();
    let [_, inputs] = x.shape().dims();
    let tiles = outputs.div_ceil(TILE) * inputs.div_ceil(TILE);
    let wanted = (TILES / tiles).min(rows / ROWS);
    (2..=wanted).rev().find(|groups| rows.is_multiple_of(*groups)).map(|groups| (groups, rows / groups))
}

/// `[rows, width]` as `[groups, rows / groups, width]`.
pub(crate) fn in_groups<R: CubeRuntime>(x: CubeTensor<R>, (groups, rows): (usize, usize)) -> CubeTensor<R> {
    let width = x.shape()[1];
    burn_cubecl::ops::reshape(x, Shape::new([groups, rows, width]))
}
