//! Matrix products on CUDA by cuBLASLt, where that library is installed: none of CubeCL 0.10's kernels uses Hopper's `wgmma`,
//! and the best of them got 200 to 232 of an H200's 989 TFLOP/s (docs/benchmarks/2026-11-26-gpu.md).
//!
//! The library is looked for when the first product is due, as CubeCL looks for NVRTC; without it, products are cubek's, and what cubek
//! computes in its place is counted ([`fallbacks`]) and told once. It is called on the thread that launches CubeCL's kernels and on the same CUDA stream, so a product waits for what was launched
//! before it and nothing waits for the host. CubeCL tells its streams to nobody but its `Debug`: see [`streams`].

use std::{
    any::Any,
    cell::RefCell,
    collections::{HashMap, HashSet, hash_map::Entry},
    ffi::c_void,
    fmt::{Debug, Display},
    mem,
    sync::{
        LazyLock, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
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
    driver::{
        result as driver,
        sys::{CUevent_flags, CUstream},
    },
};

use super::product::Precision;
use crate::wheels;

type CudaServer = <CudaRuntime as Runtime>::Server;

/// The most memory that a product may have to work in: what NVIDIA advises for Hopper.
const WORKSPACE: usize = 32 << 20;

/// How many algorithms are tried for a kind of product: cuBLASLt's first guesses, best first.
const CANDIDATES: usize = 8;

/// Multiplications below which trying is not worth the wait.
const SMALL: usize = 1 << 24;

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
    /// Those that cuBLASLt proposes, with the bytes that each works in; one of them once they have been timed.
    algorithms: Vec<(sys::cublasLtMatmulAlgo_t, usize)>,
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

/// Products that another kernel computed although cuBLASLt is installed.
static FALLBACKS: AtomicU64 = AtomicU64::new(0);

/// Whether the library is installed: where the system looks, or in a folder of NVIDIA's packages for Python.
pub(super) fn is_present() -> bool {
    static PRESENT: LazyLock<bool> = LazyLock::new(|| {
        // SAFETY: loads a shared library of NVIDIA's and calls nothing in it.
        let loads = || unsafe { sys::is_culib_present() };
        loads() || (wheels::load("libcublasLt.so.") && loads())
    });
    *PRESENT
}

/// How many products another kernel computed although cuBLASLt is installed.
pub(super) fn fallbacks() -> u64 {
    FALLBACKS.load(Ordering::Relaxed)
}

/// Counts a product that cuBLASLt does not compute, and says so the first time that such a one comes.
fn fall_back<T>(what: &str, why: impl Display) -> Option<T> {
    static TOLD: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
    FALLBACKS.fetch_add(1, Ordering::Relaxed);
    if TOLD.lock().expect("nothing panics with this lock").insert(what.to_owned()) {
        eprintln!("cuBLASLt does not compute {what}, so a slower kernel does: {why}");
    }
    None
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
    if [batch, m, k, n].contains(&0) {
        return None;
    }
    if !alike || lhs.dtype != rhs.dtype {
        let why = format!("{:?} {:?} by {:?} {:?}", lhs.shape(), lhs.dtype, rhs.shape(), rhs.dtype);
        return fall_back("products of unequal batches or types", why);
    }
    let (Some((left, left_lies)), Some((right, right_lies))) = (regular(lhs), regular(rhs)) else {
        let why = format!("strides {:?} and {:?}", lhs.meta.strides(), rhs.meta.strides());
        return fall_back("products of operands in no order that it knows", why);
    };
    let (lhs, rhs) = (left, right);
    shape[rank - 1] = n;
    let product =
        Product { batch, m, n, k, lhs: left_lies, rhs: right_lies, dtype: lhs.dtype, out: dtype, precision };
    let empty =
        |shape, dtype| empty_device_contiguous_dtype(lhs.client.clone(), lhs.device.clone(), shape, dtype);
    // Before the plan: a thread's first buffer also makes its stream.
    let out = empty(Shape::from(shape), dtype);
    let operands = [&out, &lhs, &rhs];
    let memory = |bytes: usize| (bytes > 0).then(|| empty(Shape::new([bytes]), DType::U8));
    let workspace = match planned(&lhs.device, product, operands, memory) {
        Ok(workspace) => memory(workspace),
        Err(error) => return fall_back(&format!("{product:?}"), error),
    };
    let buffers = Buffers::of(operands, workspace.as_ref());
    DeviceHandle::<CudaServer>::new(lhs.device.to_id()).submit(move |server| {
        if let Err(error) = launch(server, &product, buffers) {
            let _ = FAILURE.set(format!("{product:?}: {error}"));
        }
    });
    Some(out)
}

/// The memory of a product.
struct Buffers {
    /// Output, left and right operand.
    operands: [Binding; 3],
    workspace: Option<Binding>,
}

impl Buffers {
    fn of(operands: [&CubeTensor<CudaRuntime>; 3], workspace: Option<&CubeTensor<CudaRuntime>>) -> Self {
        let binding = |tensor: &CubeTensor<CudaRuntime>| tensor.handle.clone().binding();
        Self { operands: operands.map(binding), workspace: workspace.map(binding) }
    }
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

/// Why there is no plan of a product.
enum Unplanned {
    /// There may be one later: its thread has no stream yet.
    NotYet(String),
    /// There is none.
    Never(String),
}

/// The bytes that a product works in. The first product of a kind waits for the device's thread, which tries what cuBLASLt
/// proposes on the operands at hand, and keeps the fastest.
///
/// # Errors
/// If cuBLASLt has no algorithm for it, in words.
fn planned(
    device: &<CudaRuntime as Runtime>::Device,
    product: Product,
    operands: [&CubeTensor<CudaRuntime>; 3],
    memory: impl Fn(usize) -> Option<CubeTensor<CudaRuntime>>,
) -> Result<usize, String> {
    type Key = (usize, Product);
    static PLANNED: LazyLock<Mutex<HashMap<Key, Result<usize, String>>>> = LazyLock::new(Mutex::default);
    let key = (device.index, product);
    if let Some(planned) = PLANNED.lock().expect("nothing panics with this lock").get(&key) {
        return planned.clone();
    }
    let tried = product.batch * product.m * product.n * product.k >= SMALL;
    let workspace = if tried { memory(WORKSPACE) } else { None };
    let buffers = Buffers::of(operands, workspace.as_ref());
    let planned = DeviceHandle::<CudaServer>::new(device.to_id())
        .submit_blocking(move |server| plan(server, &product, buffers, tried))
        .map_err(|error| Unplanned::NotYet(format!("{error:?}")))
        .flatten();
    let planned = match planned {
        Ok(workspace) => Ok(workspace),
        Err(Unplanned::Never(error)) => Err(error),
        Err(Unplanned::NotYet(error)) => return Err(error),
    };
    PLANNED.lock().expect("nothing panics with this lock").insert(key, planned.clone());
    planned
}

/// [`planned`], on the device's thread.
fn plan(
    server: &mut CudaServer,
    product: &Product,
    buffers: Buffers,
    tried: bool,
) -> Result<usize, Unplanned> {
    let stream_id = StreamId::current();
    let never = Unplanned::Never;
    let addresses = Addresses::of(server, buffers, stream_id).map_err(Unplanned::NotYet)?;
    with_library(|library| {
        let stream = library.stream(server, stream_id)?;
        let handle = library.handle;
        let plan = library.plan(product).map_err(never)?;
        if tried && plan.algorithms.len() > 1 {
            let times = plan.times(handle, &addresses, stream).map_err(never)?;
            plan.algorithms = vec![plan.algorithms[fastest(&times)]];
        }
        plan.algorithms.truncate(1);
        Ok(plan.algorithms[0].1)
    })
}

/// The place of the least time.
fn fastest(times: &[f32]) -> usize {
    let least = times.iter().enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b));
    least.map_or(0, |(index, _)| index)
}

fn launch(server: &mut CudaServer, product: &Product, buffers: Buffers) -> Result<(), String> {
    let stream_id = StreamId::current();
    let addresses = Addresses::of(server, buffers, stream_id)?;
    let launched = with_library(|library| {
        let stream = library.stream(server, stream_id)?;
        let handle = library.handle;
        let plan = library.plan(product).map_err(Unplanned::Never)?;
        plan.launch(handle, &plan.algorithms[0], &addresses, stream).map_err(Unplanned::Never)
    });
    launched.map_err(|(Unplanned::NotYet(error) | Unplanned::Never(error))| error)
}

/// The addresses of [`Buffers`], with what keeps them: CubeCL does not name its type.
struct Addresses {
    out: u64,
    lhs: u64,
    rhs: u64,
    /// 0 for none.
    workspace: u64,
    _kept: Box<dyn Any>,
}

impl Addresses {
    /// This also lets the stream wait for operands that another one computed.
    fn of(server: &mut CudaServer, buffers: Buffers, stream: StreamId) -> Result<Self, String> {
        let mut resource =
            |binding| server.get_resource(binding, stream).map_err(|error| format!("{error:?}"));
        let [out, lhs, rhs] = buffers.operands.map(&mut resource);
        let workspace = buffers.workspace.map(resource).transpose()?;
        let [out, lhs, rhs] = [out?, lhs?, rhs?];
        Ok(Self {
            out: out.resource().ptr,
            lhs: lhs.resource().ptr,
            rhs: rhs.resource().ptr,
            workspace: workspace.as_ref().map_or(0, |memory| memory.resource().ptr),
            _kept: Box::new(([out, lhs, rhs], workspace)),
        })
    }
}

fn with_library<T>(act: impl FnOnce(&mut Library) -> Result<T, Unplanned>) -> Result<T, Unplanned> {
    LIBRARY.with_borrow_mut(|library| match library {
        Some(library) => act(library),
        None => {
            let handle = result::create_handle().map_err(|error| Unplanned::Never(error.to_string()))?;
            act(library.insert(Library { handle, plans: HashMap::new(), streams: HashMap::new() }))
        }
    })
}

impl Library {
    fn stream(&mut self, server: &impl Debug, id: StreamId) -> Result<CUstream, Unplanned> {
        if let Some(stream) = self.streams.get(&id) {
            return Ok(*stream);
        }
        let all = streams(&format!("{server:?}"));
        let untold = || Unplanned::Never("CubeCL's description of itself does not tell its streams".into());
        let not_yet = || Unplanned::NotYet("CubeCL has not made the stream of this thread yet".into());
        // The last one is not for kernels.
        let count = all.len().checked_sub(1).filter(|count| *count > 0).ok_or_else(untold)?;
        let stream = all[id.value as usize % count].ok_or_else(not_yet)? as CUstream;
        self.streams.insert(id, stream);
        Ok(stream)
    }

    fn plan(&mut self, product: &Product) -> Result<&mut Plan, String> {
        match self.plans.entry(*product) {
            Entry::Occupied(plan) => Ok(plan.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(Plan::new(self.handle, product)?)),
        }
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
            // Partial sums are added in fp32, never in the type of the output.
            let (reductions, schemes) = (
                PreferenceAttribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32,
            );
            set(reductions, (&raw const schemes).cast(), size_of::<u32>())?;
            let alignments = [
                (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, rhs.alignment),
                (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, lhs.alignment),
            ];
            for (attribute, alignment) in alignments {
                set(attribute, (&raw const alignment).cast(), size_of::<u32>())?;
            }
            let [rhs, lhs, out] = layouts;
            // cudarc's own function asks for one algorithm.
            // SAFETY: plain numbers.
            let mut proposed: [sys::cublasLtMatmulHeuristicResult_t; CANDIDATES] = unsafe { mem::zeroed() };
            let mut count = 0;
            // SAFETY: all objects live; there is room for as many proposals as are asked for; the preference is not used again.
            unsafe {
                let asked = sys::cublasLtMatmulAlgoGetHeuristic(
                    handle,
                    description,
                    rhs,
                    lhs,
                    out,
                    out,
                    preference,
                    CANDIDATES as i32,
                    proposed.as_mut_ptr(),
                    &raw mut count,
                );
                result::destroy_matmul_pref(preference)?;
                asked.result()?;
            }
            let usable = proposed.into_iter().take(count as usize).filter(|it| it.state.result().is_ok());
            let algorithms: Vec<_> = usable.map(|it| (it.algo, it.workspaceSize)).collect();
            match algorithms.is_empty() {
                true => Err(result::CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)),
                false => Ok(Self { description, lhs, rhs, out, algorithms }),
            }
        };
        planned().map_err(|error| error.to_string())
    }

    fn launch(
        &self,
        handle: sys::cublasLtHandle_t,
        (algorithm, workspace): &(sys::cublasLtMatmulAlgo_t, usize),
        addresses: &Addresses,
        stream: CUstream,
    ) -> Result<(), String> {
        let Addresses { out, lhs, rhs, workspace: memory, .. } = *addresses;
        let [out, lhs, rhs, memory] = [out, lhs, rhs, memory].map(|address| address as *mut c_void);
        let [one, zero] = [1.0f32, 0.0];
        // SAFETY: the plan describes these buffers, whose memory CubeCL reuses only for what comes later in the stream; the
        // scalars are read before the call returns.
        unsafe {
            result::matmul(
                handle,
                self.description,
                (&raw const one).cast(),
                (&raw const zero).cast(),
                rhs,
                self.rhs,
                lhs,
                self.lhs,
                out,
                self.out,
                out,
                self.out,
                algorithm,
                memory,
                *workspace,
                stream.cast(),
            )
        }
        .map_err(|error| error.to_string())
    }

    /// How long each algorithm takes, in milliseconds: three products, after one that warms up. What fails takes for ever.
    fn times(
        &self,
        handle: sys::cublasLtHandle_t,
        addresses: &Addresses,
        stream: CUstream,
    ) -> Result<Vec<f32>, String> {
        let event = || driver::event::create(CUevent_flags::CU_EVENT_DEFAULT);
        let words = |error: driver::DriverError| error.to_string();
        let (start, end) = (event().map_err(words)?, event().map_err(words)?);
        let time = |algorithm| -> Result<f32, String> {
            self.launch(handle, algorithm, addresses, stream)?;
            // SAFETY: the events and the stream live.
            unsafe { driver::event::record(start, stream).map_err(words)? };
            for _ in 0..3 {
                self.launch(handle, algorithm, addresses, stream)?;
            }
            // SAFETY: as above.
            unsafe {
                driver::event::record(end, stream).map_err(words)?;
                driver::event::synchronize(end).map_err(words)?;
                driver::event::elapsed(start, end).map_err(words)
            }
        };
        let times =
            self.algorithms.iter().map(|algorithm| time(algorithm).unwrap_or(f32::INFINITY)).collect();
        // SAFETY: nothing uses them any more.
        unsafe {
            driver::event::destroy(start).map_err(words)?;
            driver::event::destroy(end).map_err(words)?;
        }
        Ok(times)
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
    use super::{fastest, streams};

    #[test]
    fn the_fastest_is_taken() {
        assert_eq!(fastest(&[3.0, 1.0, f32::INFINITY, 1.5]), 1);
        assert_eq!(fastest(&[f32::INFINITY, f32::INFINITY]), 0);
    }

    #[test]
    fn streams_are_read_from_the_description() {
        let server = "CudaServer { device_id: (0, 1), streams: MultiStream { streams: StreamPool { streams: [None, \
                      Some(StreamWrapper { stream: Stream { sys: 0x1f0, pools: [Pool { pages: {} }, Pool] }, cursor: 3 }), None], \
                      factory: F } }, comm_stream: 0x2 }";
        assert_eq!(streams(server), [None, Some(0x1f0), None]);
        assert_eq!(streams("CudaServer"), []);
    }
}
