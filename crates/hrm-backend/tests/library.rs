//! How products go to cuBLASLt, as the driver and the library in `tools/cuda-without-gpu` see it; with others there is nothing to see.
#![cfg(all(feature = "cuda", not(feature = "fusion")))]

mod cuda {
    use std::{env, fs};

    use burn::{
        backend::Cuda,
        tensor::{Int, Tensor},
    };
    use hrm_backend::{cube, ops};

    fn matrix(rows: usize, columns: usize) -> Tensor<Cuda, 2> {
        let device = Default::default();
        let values = Tensor::<Cuda, 1, Int>::arange(0..(rows * columns) as i64, &device);
        ((values % 7).float() - 3.0).reshape([rows, columns])
    }

    /// One test, as all of this belongs to the process.
    #[test]
    fn products_are_planned_once_and_well() {
        if env::var_os("HRM_WITHOUT_GPU").is_none() {
            println!("skipped: only the library in tools/cuda-without-gpu tells");
            return;
        }
        let path = env::temp_dir().join(format!("hrm-library-{}", std::process::id()));
        // SAFETY: nothing else in this program changes or reads the environment: it has this one test.
        unsafe {
            env::set_var("HRM_FAKE_CUDA_LOG", &path);
            env::set_var("HRM_FAKE_CUBLAS_ALGORITHMS", "3");
            env::set_var(cube::KERNEL_VARIABLE, "cublas");
        }
        assert!(cube::uses_cublas());
        // On a thread whose first work on the device this is: its stream does not exist yet.
        let (lhs, rhs) = (matrix(256, 512), matrix(512, 128));
        let one = |lhs: Tensor<Cuda, 2>, rhs: Tensor<Cuda, 2>| ops::product(lhs, rhs).into_data();
        let elsewhere = {
            let (lhs, rhs) = (lhs.clone(), rhs.clone());
            std::thread::spawn(move || one(lhs, rhs)).join().expect("a product")
        };
        let here = one(lhs, rhs);
        here.assert_eq(&elsewhere, true);
        let text = fs::read_to_string(&path).expect("the log of the library");
        let products: Vec<&str> =
            text.lines().filter(|line| line.starts_with("cublasLtMatmul 128x256x512 ")).collect();
        // Three algorithms, four times each; then the two products that were asked for, by the fastest.
        assert_eq!(products.len(), 3 * 4 + 2, "{text}");
        assert!(products[12..].iter().all(|line| line.contains("algorithm 1 ")), "{products:?}");
        assert_eq!(cube::cublas_fallbacks(), 0);
        // What it does not take is counted.
        let device = Default::default();
        let batches = Tensor::<Cuda, 3>::ones([2, 3, 4], &device);
        let one = Tensor::<Cuda, 3>::ones([1, 4, 5], &device);
        let sums: Vec<f32> = ops::product(batches, one).into_data().to_vec().expect("fp32");
        assert!(sums.iter().all(|sum| *sum == 4.0));
        assert_eq!(cube::cublas_fallbacks(), 1);
        fs::remove_file(&path).expect("the log can be removed");
    }
}
