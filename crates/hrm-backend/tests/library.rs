//! What goes to a CUDA device, as the driver and the library in `tools/cuda-without-gpu` see it; with others there is nothing to see.
#![cfg(all(feature = "cuda", not(feature = "fusion")))]

mod cuda {
    use std::{env, fs, path::PathBuf, sync::OnceLock};

    use burn::{
        backend::Cuda,
        tensor::{DType, Int, Tensor, backend::Backend},
    };
    use hrm_backend::{
        GroupTables, GroupWeights, Groups, HrmBackend, cube,
        ops::{self, AdamAtan2Update},
    };

    fn matrix(rows: usize, columns: usize) -> Tensor<Cuda, 2> {
        let device = Default::default();
        let values = Tensor::<Cuda, 1, Int>::arange(0..(rows * columns) as i64, &device);
        ((values % 7).float() - 3.0).reshape([rows, columns])
    }

    /// The log of the stand-in, begun by the first test; `None` with another driver.
    fn log() -> Option<&'static PathBuf> {
        static LOG: OnceLock<Option<PathBuf>> = OnceLock::new();
        LOG.get_or_init(|| {
            if env::var_os("HRM_WITHOUT_GPU").is_none() {
                println!("skipped: only the driver in tools/cuda-without-gpu tells");
                return None;
            }
            let path = env::temp_dir().join(format!("hrm-library-{}", std::process::id()));
            // SAFETY: the tests of this program run one after the other, and nothing else in it changes or reads the environment.
            unsafe {
                env::set_var("HRM_FAKE_CUDA_LOG", &path);
                env::set_var("HRM_FAKE_CUBLAS_ALGORITHMS", "3");
                env::set_var(cube::KERNEL_VARIABLE, "cublas");
            }
            Some(path)
        })
        .as_ref()
    }

    /// What is written down while `work` is done.
    fn lines(path: &PathBuf, work: impl FnOnce()) -> Vec<String> {
        let device = Default::default();
        <Cuda as Backend>::sync(&device).expect("a device that works");
        let before = fs::read_to_string(path).unwrap_or_default().len();
        work();
        <Cuda as Backend>::sync(&device).expect("a device that works");
        let text = fs::read_to_string(path).unwrap_or_default();
        text[before..].lines().map(str::to_owned).collect()
    }

    #[test]
    fn products_are_planned_once_and_well() {
        let Some(log) = log() else { return };
        assert!(cube::uses_cublas());
        let (lhs, rhs) = (matrix(256, 512), matrix(512, 128));
        let lines = lines(log, || {
            let one = |lhs: Tensor<Cuda, 2>, rhs: Tensor<Cuda, 2>| ops::product(lhs, rhs).into_data();
            // On a thread whose first work on the device this is: its stream does not exist yet.
            let elsewhere = {
                let (lhs, rhs) = (lhs.clone(), rhs.clone());
                std::thread::spawn(move || one(lhs, rhs)).join().expect("a product")
            };
            one(lhs, rhs).assert_eq(&elsewhere, true);
        });
        let products: Vec<_> =
            lines.iter().filter(|line| line.starts_with("cublasLtMatmul 128x256x512 ")).collect();
        // Three algorithms, four times each; then the two products that were asked for, by the fastest.
        assert_eq!(products.len(), 3 * 4 + 2, "{lines:?}");
        assert!(products[12..].iter().all(|line| line.contains("algorithm 1 ")), "{products:?}");
        // What it does not take is counted.
        let fallbacks = cube::cublas_fallbacks();
        let device = Default::default();
        let batches = Tensor::<Cuda, 3>::ones([2, 3, 4], &device);
        let one = Tensor::<Cuda, 3>::ones([1, 4, 5], &device);
        let sums: Vec<f32> = ops::product(batches, one).into_data().to_vec().expect("fp32");
        assert!(sums.iter().all(|sum| *sum == 4.0));
        assert_eq!(cube::cublas_fallbacks(), fallbacks + 1);
    }

    /// Each kernel of Burn's costs a copy of its shapes to the device. Ours cost none, forward and backward.
    #[test]
    fn our_kernels_send_nothing() {
        let Some(log) = log() else { return };
        let device = Default::default();
        let primitive = |x: Tensor<Cuda, 2>| x.into_primitive().tensor();
        let of = |rows, columns, dtype| primitive(matrix(rows, columns).cast(dtype));
        let (half, full) = (DType::BF16, DType::F32);
        let (x, weight, turned) = (of(34, 64, half), of(128, 64, full), of(64, 128, half));
        let qkv = matrix(34, 192).cast(half).reshape([2, 17, 192]).into_primitive().tensor();
        let (cos, sin) = (of(17, 32, full), of(17, 32, full));
        let moments = || (of(30, 40, full), of(30, 40, full));
        let (parameters, moments, good) = (of(30, 40, full), moments(), of(1, 1, full));
        let update = AdamAtan2Update { lr: 0.1, beta1: 0.9, beta2: 0.9, weight_decay: 0.1, step: 1 };
        let tokens = Tensor::<Cuda, 1, Int>::arange(0..34, &device) % 11;
        let groups = Groups::new(17, 2, [(vec![(0..17).collect()], vec![vec![0]; 17])]).expect("groups");
        let GroupTables { groups, pool, spread } =
            GroupTables::<Tensor<Cuda, 2>>::new(groups.into(), &device);
        let tables = GroupTables { groups, pool: primitive(pool), spread: primitive(spread) };
        let state = matrix(34, 64).cast(half).reshape([1, 34, 64]).into_primitive().tensor();
        let (input, gate_up, down) = (of(16, 64, half), of(64, 96, half), of(64, 32, half));
        let matrices = matrix(30, 40).reshape([2, 15, 40]).into_primitive().tensor();
        let all = || {
            let (y, scale) = Cuda::add_rms_norm(Cuda::add(x.clone(), x.clone()), x.clone(), 1e-5);
            drop(Cuda::add_rms_norm_backward(y.clone(), scale, y));
            let wide = Cuda::fused_linear(x.clone(), weight.clone());
            drop(Cuda::linear_backward_input(x.clone(), turned.clone()));
            drop(Cuda::linear_backward_weight(wide.clone(), x.clone(), full));
            drop(Cuda::swiglu_backward(wide.clone(), Cuda::swiglu(wide.clone())));
            let (y, scale) = Cuda::normed_swiglu(wide.clone(), 1e-5);
            drop(Cuda::normed_swiglu_backward(wide, scale, y));
            let rotary = || Some((cos.clone(), sin.clone()));
            let (out, sums) = Cuda::fused_attention(qkv.clone(), rotary(), 2);
            drop(Cuda::attention_backward(qkv.clone(), rotary(), 2, out.clone(), sums, out));
            let weights =
                || GroupWeights { input: input.clone(), gate_up: gate_up.clone(), down: down.clone() };
            let block = Cuda::group_block(state.clone(), Some(state.clone()), weights(), &tables, 1e-5);
            let dy = block.0.clone();
            drop(Cuda::group_block_backward((state.clone(), None), weights(), &tables, block, dy));
            drop(Cuda::token_embedding_backward(x.clone(), tokens.clone().into_primitive(), 11));
            let (p, m) = (parameters.clone(), moments.clone());
            drop(Cuda::adam_atan2(p.clone(), p.clone(), m, &update, Some(good.clone())));
            drop(Cuda::sums_of_squares(vec![p, cos.clone()]));
            drop(Cuda::transpose(matrices.clone()));
        };
        // The first time plans and compiles, and copies the lists of groups.
        all();
        let lines = lines(log, all);
        let of = |what: &str| lines.iter().filter(|line| line.starts_with(what)).count();
        assert!(of("kernel ") >= 25 && of("cublasLtMatmul ") >= 15, "{lines:?}");
        assert_eq!(of("upload "), 0, "{lines:?}");
    }
}
