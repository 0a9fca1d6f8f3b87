//! Matrix products on CUDA by cuBLASLt, where that library is installed: none of CubeCL 0.10's kernels uses Hopper's `wgmma`,
//! and the best of them got 200 to 232 of an H200's 989 TFLOP/s (docs/benchmarks/2026-11-26-gpu.md).
//!
//! The library is looked for when the first product is due, as CubeCL looks for NVRTC; without it, products are cubek's. It is
//! called on the thread that launches CubeCL's kernels and on the same CUDA stream, so a product waits for what was launched
//! before it and nothing waits for the host. CubeCL tells its streams to nobody but its `Debug`: see [`streams`].

use std::{
    any::Any,
    cell::RefCell,
    collections::HashMap,
    ffi::c_void,
    fmt::Debug,
    ptr,
    sync::{LazyLock, Mutex, OnceLock},
};

use burn::tensor::{DType, Shape, TensorMetadata};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{
        Runtime,
        cuda::CudaRuntime,
        device::Device,
        device_handle::DeviceHandle,
        server::{Binding, ComputeServer},
        stream_id::StreamId,
    },
    kernel::into_contiguous,
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};
use cudarc::{
    cublaslt::{
        result,
        sys::{
            self, cublasComputeType_t as ComputeType, cublasLtMatmulDescAttributes_t as DescAttribute,
            cublasLtMatmulPreferenceAttributes_t as PreferenceAttribute,
            cublasLtMatrixLayoutAttribute_t as LayoutAttribute,
        },
    },
    driver::sys::CUstream,
};

use super::product::Precision;

type CudaServer = <CudaRuntime as Runtime>::Server;

/// The most memory that a product may have to work in: what NVIDIA advises for Hopper.
const WORKSPACE: usize = 32 << 20;

/// Alignment of CubeCL's buffers on CUDA, in bytes, if nothing is said of where in them a tensor starts.
const ALIGNMENT: u64 = 256;

/// The matrices of an operand in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Matrices {
    /// Elements from one row (or column) to the next.
    leading: usize,
    /// Columns are dense rather than rows.
    turned: bool,
    /// Elements from one matrix to the next.
    step: usize,
    /// Bytes that the address is a multiple of.
    alignment: u32,
}

impl Matrices {
    /// If the last or the last but one axis is dense, and all matrices have the same distance to the next.
    fn of(tensor: &CubeTensor<CudaRuntime>) -> Option<Self> {
        let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
        let rank = shape.num_dims();
        let [rows, columns] = [shape[rank - 2], shape[rank - 1]];
        let [row, column] = [strides[rank - 2], strides[rank - 1]];
        let (turned, leading) = match (column == 1 || columns == 1, row == 1 || rows == 1) {
            (true, _) if rows == 1 => (false, columns),
            (true, _) => (false, row),
            (false, true) if columns == 1 => (true, rows),
            (false, true) => (true, column),
            (false, false) => return None,
        };
        let batch: Vec<usize> = (0..rank - 2).filter(|axis| shape[*axis] > 1).collect();
        let even = batch.windows(2).all(|axes| strides[axes[0]] == strides[axes[1]] * shape[axes[1]]);
        let offset = tensor.handle.offset_start.unwrap_or(0);
        (even && leading >= if turned { rows } else { columns }).then(|| Self {
            leading,
            turned,
            step: batch.last().map_or(0, |axis| strides[*axis]),
            alignment: 1 << (offset | ALIGNMENT).trailing_zeros(),
        })
    }
}

/// What cuBLASLt has to know of a product to plan it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Product {
    batch: usize,
    m: usize,
    n: usize,
    k: usize,
    lhs: Matrices,
    rhs: Matrices,
    dtype: DType,
    out: DType,
    precision: Precision,
}

/// Objects of cuBLASLt that describe a product, kept for as long as the thread.
struct Plan {
    description: sys::cublasLtMatmulDesc_t,
    lhs: sys::cublasLtMatrixLayout_t,
    rhs: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
    workspace: usize,
}

/// Everything of cuBLASLt that belongs to one thread of a CubeCL server.
struct Library {
    handle: sys::cublasLtHandle_t,
    plans: HashMap<Product, Plan>,
    streams: HashMap<StreamId, CUstream>,
}

thread_local! {
    static LIBRARY: RefCell<Option<Library>> = const { RefCell::new(None) };
}

/// What went wrong with a product that was already promised to the caller. The next product tells.
static FAILURE: OnceLock<String> = OnceLock::new();

/// Whether the library is installed.
pub(super) fn is_present() -> bool {
    // SAFETY: loads a shared library of NVIDIA's and calls nothing in it.
    static PRESENT: LazyLock<bool> = LazyLock::new(|| unsafe { sys::is_culib_present() });
    *PRESENT
}

/// The product of the last two axes, in `dtype`, if this is CUDA, cuBLASLt is there and it takes the operands.
///
/// # Panics
/// If an earlier product failed on the device's thread.
pub(super) fn product<R: CubeRuntime>(
    lhs: &CubeTensor<R>,
    rhs: &CubeTensor<R>,
    dtype: DType,
    precision: Precision,
) -> Option<CubeTensor<R>> {
    let [lhs, rhs] = [lhs, rhs].map(|tensor| (tensor as &dyn Any).downcast_ref::<CubeTensor<CudaRuntime>>());
    let out = on_cuda(lhs?, rhs?, dtype, precision)?;
    let out: Box<dyn Any> = Box::new(out);
    out.downcast().ok().map(|tensor| *tensor)
}

fn on_cuda(
    lhs: &CubeTensor<CudaRuntime>,
    rhs: &CubeTensor<CudaRuntime>,
    dtype: DType,
    precision: Precision,
) -> Option<CubeTensor<CudaRuntime>> {
    if !is_present() {
        return None;
    }
    assert!(FAILURE.get().is_none(), "cuBLASLt: {}", FAILURE.get().map_or("", String::as_str));
    let rank = lhs.shape().num_dims();
    let mut shape: Vec<usize> = lhs.shape().to_vec();
    let [m, k, n] = [shape[rank - 2], shape[rank - 1], rhs.shape()[rhs.shape().num_dims() - 1]];
    let batch = shape[..rank - 2].iter().product();
    let alike = rhs.shape().num_dims() == rank && rhs.shape()[..rank - 2] == shape[..rank - 2];
    if !alike || [batch, m, k, n].contains(&0) || lhs.dtype != rhs.dtype {
        return None;
    }
    shape[rank - 1] = n;
    let [(lhs, left), (rhs, right)] = [regular(lhs)?, regular(rhs)?];
    let product = Product { batch, m, n, k, lhs: left, rhs: right, dtype: lhs.dtype, out: dtype, precision };
    let workspace = planned(&lhs.device, product)?;
    let empty =
        |shape, dtype| empty_device_contiguous_dtype(lhs.client.clone(), lhs.device.clone(), shape, dtype);
    let out = empty(Shape::from(shape), dtype);
    let workspace = (workspace > 0).then(|| empty(Shape::new([workspace]), DType::U8).handle.binding());
    let operands = [&out, &lhs, &rhs].map(|tensor| tensor.handle.clone().binding());
    DeviceHandle::<CudaServer>::new(lhs.device.to_id()).submit(move |server| {
        if let Err(error) = launch(server, &product, operands, workspace) {
            let _ = FAILURE.set(format!("{product:?}: {error}"));
        }
    });
    Some(out)
}

/// An operand, copied if its matrices are not regular as they lie.
fn regular(tensor: &CubeTensor<CudaRuntime>) -> Option<(CubeTensor<CudaRuntime>, Matrices)> {
    if let Some(matrices) = Matrices::of(tensor) {
        return Some((tensor.clone(), matrices));
    }
    let copy = into_contiguous(tensor.clone());
    let matrices = Matrices::of(&copy)?;
    Some((copy, matrices))
}

/// The bytes that a product works in; none if cuBLASLt has no algorithm for it. Waits for the device's thread once for each
/// kind of product.
fn planned(device: &<CudaRuntime as Runtime>::Device, product: Product) -> Option<usize> {
    type Key = (usize, Product);
    static PLANNED: LazyLock<Mutex<HashMap<Key, Option<usize>>>> = LazyLock::new(Mutex::default);
    let key = (device.index, product);
    if let Some(planned) = PLANNED.lock().expect("nothing panics with this lock").get(&key) {
        return *planned;
    }
    let stream = StreamId::current();
    let planned = DeviceHandle::<CudaServer>::new(device.to_id())
        .submit_blocking(move |server| {
            with_library(|library| {
                library.stream(server, stream)?;
                Ok(library.plan(&product)?.workspace)
            })
            .ok()
        })
        .ok()
        .flatten();
    PLANNED.lock().expect("nothing panics with this lock").insert(key, planned);
    planned
}

fn launch(
    server: &mut CudaServer,
    product: &Product,
    operands: [Binding; 3],
    workspace: Option<Binding>,
) -> Result<(), String> {
    let stream_id = StreamId::current();
    // This also lets the stream wait for operands that another one computed.
    let mut resource =
        |binding| server.get_resource(binding, stream_id).map_err(|error| format!("{error:?}"));
    let [out, lhs, rhs] = operands.map(&mut resource);
    let [out, lhs, rhs] = [out?, lhs?, rhs?];
    let workspace = workspace.map(resource).transpose()?;
    let address = |pointer: u64| pointer as *mut c_void;
    with_library(|library| {
        let stream = library.stream(server, stream_id)?;
        let handle = library.handle;
        let plan = library.plan(product)?;
        let [one, zero] = [1.0f32, 0.0];
        // SAFETY: the plan describes these buffers, whose memory CubeCL reuses only for what comes later in the stream; the
        // scalars are read before the call returns.
        unsafe {
            result::matmul(
                handle,
                plan.description,
                (&raw const one).cast(),
                (&raw const zero).cast(),
                address(rhs.resource().ptr),
                plan.rhs,
                address(lhs.resource().ptr),
                plan.lhs,
                address(out.resource().ptr),
                plan.out,
                address(out.resource().ptr),
                plan.out,
                &raw const plan.algorithm,
                workspace.as_ref().map_or(ptr::null_mut(), |memory| address(memory.resource().ptr)),
                plan.workspace,
                stream.cast(),
            )
        }
        .map_err(|error| error.to_string())
    })
}

fn with_library<T>(act: impl FnOnce(&mut Library) -> Result<T, String>) -> Result<T, String> {
    LIBRARY.with_borrow_mut(|library| match library {
        Some(library) => act(library),
        None => {
            let handle = result::create_handle().map_err(|error| error.to_string())?;
            act(library.insert(Library { handle, plans: HashMap::new(), streams: HashMap::new() }))
        }
    })
}

impl Library {
    fn stream(&mut self, server: &impl Debug, id: StreamId) -> Result<CUstream, String> {
        if let Some(stream) = self.streams.get(&id) {
            return Ok(*stream);
        }
        let all = streams(&format!("{server:?}"));
        // The last one is not for kernels.
        let count = all.len().saturating_sub(1).max(1);
        let address = all.get(id.value as usize % count).copied().flatten();
        let stream = address.ok_or("CubeCL's description of itself does not tell its streams")? as CUstream;
        self.streams.insert(id, stream);
        Ok(stream)
    }

    fn plan(&mut self, product: &Product) -> Result<&Plan, String> {
        if !self.plans.contains_key(product) {
            let plan = Plan::new(self.handle, product)?;
            self.plans.insert(*product, plan);
        }
        Ok(&self.plans[product])
    }
}

impl Plan {
    /// cuBLASLt's matrices have dense columns. Ours, of dense rows, are their transposes to it, so it is asked for
    /// `out^T = rhs^T lhs^T`.
    fn new(handle: sys::cublasLtHandle_t, product: &Product) -> Result<Self, String> {
        let Product { batch, m, n, k, lhs, rhs, dtype, out, precision } = *product;
        let compute = match (dtype, precision) {
            (DType::F32, Precision::Rounded) => ComputeType::CUBLAS_COMPUTE_32F_FAST_TF32,
            _ => ComputeType::CUBLAS_COMPUTE_32F,
        };
        let [operand_type, out_type] = [data_type(dtype)?, data_type(out)?];
        let planned = || -> Result<Self, result::CublasError> {
            let description = result::create_matmul_desc(compute, sys::cudaDataType::CUDA_R_32F)?;
            let transposed = [
                (DescAttribute::CUBLASLT_MATMUL_DESC_TRANSA, rhs.turned),
                (DescAttribute::CUBLASLT_MATMUL_DESC_TRANSB, lhs.turned),
            ];
            for (attribute, turned) in transposed {
                let turned = i32::from(turned); // CUBLAS_OP_N, CUBLAS_OP_T
                // SAFETY: the attribute is of that type; the description lives.
                unsafe {
                    let value = (&raw const turned).cast();
                    result::set_matmul_desc_attribute(description, attribute, value, size_of::<i32>())?;
                }
            }
            let plain = Matrices { leading: n, turned: false, step: m * n, alignment: ALIGNMENT as u32 };
            let layouts = [
                layout(operand_type, [k, n], rhs, batch)?,
                layout(operand_type, [m, k], lhs, batch)?,
                layout(out_type, [m, n], plain, batch)?,
            ];
            let preference = result::create_matmul_pref()?;
            let set = |attribute, value: *const c_void, size| {
                // SAFETY: the callers below give values of the attributes' types; the preference lives.
                unsafe { result::set_matmul_pref_attribute(preference, attribute, value, size) }
            };
            let (most, workspace) =
                (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, WORKSPACE);
            set(most, (&raw const workspace).cast(), size_of::<usize>())?;
            let alignments = [
                (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, rhs.alignment),
                (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, lhs.alignment),
            ];
            for (attribute, alignment) in alignments {
                set(attribute, (&raw const alignment).cast(), size_of::<u32>())?;
            }
            let [rhs, lhs, out] = layouts;
            // SAFETY: all objects live; the preference is not used again.
            let found = unsafe {
                let found =
                    result::get_matmul_algo_heuristic(handle, description, rhs, lhs, out, out, preference);
                result::destroy_matmul_pref(preference)?;
                found?
            };
            Ok(Self { description, lhs, rhs, out, algorithm: found.algo, workspace: found.workspaceSize })
        };
        planned().map_err(|error| error.to_string())
    }
}

/// The layout of matrices of `rows` and `columns`, as cuBLASLt sees them: transposed.
fn layout(
    dtype: sys::cudaDataType,
    [rows, columns]: [usize; 2],
    matrices: Matrices,
    batch: usize,
) -> Result<sys::cublasLtMatrixLayout_t, result::CublasError> {
    let [dense, others] = if matrices.turned { [rows, columns] } else { [columns, rows] };
    let layout = result::create_matrix_layout(dtype, dense as u64, others as u64, matrices.leading as i64)?;
    let (batch, step) = (batch as i32, matrices.step as i64);
    let (count, offset) = (
        LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
        LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
    );
    // SAFETY: the attributes are of these types; the layout lives.
    unsafe {
        result::set_matrix_layout_attribute(layout, count, (&raw const batch).cast(), size_of::<i32>())?;
        result::set_matrix_layout_attribute(layout, offset, (&raw const step).cast(), size_of::<i64>())?;
    }
    Ok(layout)
}

fn data_type(dtype: DType) -> Result<sys::cudaDataType, String> {
    match dtype {
        DType::F32 => Ok(sys::cudaDataType::CUDA_R_32F),
        DType::BF16 => Ok(sys::cudaDataType::CUDA_R_16BF),
        DType::F16 => Ok(sys::cudaDataType::CUDA_R_16F),
        _ => Err(format!("no products of {dtype:?}")),
    }
}

/// The addresses of the CUDA streams of a CubeCL server, from how it prints itself; `None` for those not made yet. CubeCL 0.10
/// has no other way to them. Empty if it prints something else, so that a later CubeCL costs speed, not right answers.
fn streams(server: &str) -> Vec<Option<u64>> {
    const LIST: &str = "streams: StreamPool { streams: [";
    const ADDRESS: &str = "sys: 0x";
    let Some(start) = server.find(LIST) else { return Vec::new() };
    let list = &server[start + LIST.len()..];
    let mut entries = Vec::new();
    let (mut depth, mut entry) = (0, 0);
    for (at, character) in list.char_indices() {
        match character {
            '[' | '{' | '(' => depth += 1,
            ']' | ',' if depth == 0 => {
                entries.push(&list[entry..at]);
                entry = at + 1;
                if character == ']' {
                    break;
                }
            }
            ']' | '}' | ')' => depth -= 1,
            _ => {}
        }
    }
    let address = |entry: &str| {
        let digits = &entry[entry.find(ADDRESS)? + ADDRESS.len()..];
        let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
        u64::from_str_radix(&digits[..end], 16).ok()
    };
    entries.into_iter().map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::streams;

    #[test]
    fn streams_are_read_from_the_description() {
        let server = "CudaServer { device_id: (0, 1), streams: MultiStream { streams: StreamPool { streams: [None, \
                      Some(StreamWrapper { stream: Stream { sys: 0x1f0, pools: [Pool { pages: {} }, Pool] }, cursor: 3 }), None], \
                      factory: F } }, comm_stream: 0x2 }";
        assert_eq!(streams(server), [None, Some(0x1f0), None]);
        assert_eq!(streams("CudaServer"), []);
    }
}
