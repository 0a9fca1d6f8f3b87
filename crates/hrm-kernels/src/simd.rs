//! One vector interface over AVX-512, AVX2 and portable arrays.
//!
//! A kernel is written once, generic over [`Simd`], as `#[inline(always)]` code inside [`Kernel::run`]. [`dispatch`] picks the
//! instruction set at run time and compiles the kernel once per set inside a `#[target_feature]` function, where everything inlines.
//! A kernel must not call intrinsics from a closure (a closure is compiled on its own, without the features, and each intrinsic becomes a call).

use crate::gemm::micro;
use crate::groups::{self, Product};
use std::sync::OnceLock;

/// The instruction set that the kernels run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Arrays of eight floats, left to the compiler to vectorise. Works on every machine.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl Isa {
    /// The best instruction set of this machine, found once. `HRM_KERNELS_ISA` = `portable`, `avx2` or `avx512` asks for another one; a set
    /// that the machine lacks is not taken.
    pub fn best() -> Isa {
        #[cfg(test)]
        if let Some(isa) = crate::testing::ISA.get() {
            return isa;
        }
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let available = Isa::available();
            let asked = std::env::var("HRM_KERNELS_ISA").ok().map(|name| name.to_lowercase());
            let asked = available.iter().find(|isa| asked.as_deref() == Some(isa.name()));
            *asked.unwrap_or(&available[available.len() - 1])
        })
    }

    /// What this machine can run, slowest first.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut)]
        let mut found = vec![Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Isa::Avx2);
            }
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx512 && found.len() == 2 {
                found.push(Isa::Avx512);
            }
        }
        found
    }

    /// Lower-case name: `portable`, `avx2`, `avx512`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}

/// A vector of `N` floats and what can be done with it. The value `self` is proof that the instruction set is there.
pub(crate) trait Simd: Copy + Send + Sync {
    /// The vector.
    type V: Copy;
    /// Lanes.
    const N: usize;

    fn splat(self, x: f32) -> Self::V;
    /// # Safety
    /// `p` is readable for `N` floats.
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { self.load_n(p, Self::N) }
    }
    /// # Safety
    /// `p` is writable for `N` floats.
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        // SAFETY: the caller's promise.
        unsafe { self.store_n(p, v, Self::N) };
    }
    /// The first `n <= N` lanes from memory, zero in the others.
    /// # Safety
    /// `p` is readable for `n` floats.
    unsafe fn load_n(self, p: *const f32, n: usize) -> Self::V;
    /// # Safety
    /// `p` is writable for `n <= N` floats.
    unsafe fn store_n(self, p: *mut f32, v: Self::V, n: usize);
    /// Asks for the cache line at `p`, which may be anywhere.
    fn prefetch(self, p: *const f32);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `c - a * b`.
    fn fnma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger one; `b` where either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller one; `b` where either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn sqrt(self, a: Self::V) -> Self::V;
    fn abs(self, a: Self::V) -> Self::V;
    /// Magnitude of `a`, sign of `b`.
    fn copysign(self, a: Self::V, b: Self::V) -> Self::V;
    /// Nearest integer, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `a * 2^n` for integral `n` in `-200..=200`.
    fn ldexp(self, a: Self::V, n: Self::V) -> Self::V;
    /// Where `a > b`, `x`; elsewhere `y`.
    fn gt(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// Sum of the lanes.
    fn sum(self, a: Self::V) -> f32;
    /// Transposes `rows <= N` rows of `cols <= N` floats: `dst[c * dst_stride + r] = src[r * src_stride + c]`. Writes `N` floats in each of
    /// the `cols` rows of `dst`, in increasing order of `c`; those beyond `rows` are zero.
    /// # Safety
    /// Source readable as described, destination writable for `N` floats at each of the `cols` rows.
    unsafe fn transpose(
        self,
        src: *const f32,
        src_stride: usize,
        rows: usize,
        cols: usize,
        dst: *mut f32,
        dst_stride: usize,
    );
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::transpose16;

/// A computation that is compiled once for each instruction set.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;
    /// The body; must be `#[inline(always)]`.
    fn run<S: GemmSimd>(self, s: S) -> Self::Output;
}

/// [`Simd`] with the shape of its matrix micro-kernel.
pub(crate) trait GemmSimd: Simd {
    /// Rows of a micro-tile.
    const MR: usize;
    /// Vectors across a micro-tile.
    const NV: usize;
    /// Columns of a micro-tile.
    const NR: usize = Self::NV * Self::N;

    /// [`micro::tile`], compiled once.
    ///
    /// # Safety
    /// As there.
    unsafe fn tile(self, tile: &micro::Tile);

    /// [`groups::product`], compiled once; of `pairs` only where the processor has them.
    ///
    /// # Safety
    /// As there.
    unsafe fn small_product(self, product: &Product, pairs: bool);

    /// Words of neighbouring values, rounded to bfloat16; where the processor has pairs.
    ///
    /// # Safety
    /// It has; `src` is a multiple of 16 floats long, `words` half of it.
    unsafe fn round_along(self, _: &[f32], _: &mut [f32]) {
        unreachable!("no pairs on this instruction set")
    }

    /// Words of a row of `n` values and the next one, rounded to bfloat16; where the processor has pairs.
    ///
    /// # Safety
    /// It has; `n` is a multiple of 16, `src` whole rows, `words` a row for each two, begun or whole.
    unsafe fn round_across(self, _: &[f32], _: usize, _: &mut [f32]) {
        unreachable!("no pairs on this instruction set")
    }
}

/// Runs `kernel` on `isa`, which must be one of [`Isa::available`].
#[inline]
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa {
        // SAFETY: an `Isa` other than `Portable` only comes out of `Isa::available`, which checked the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::run_avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::run_avx2(kernel) },
        _ => kernel.run(Portable),
    }
}

/// Arrays of eight floats.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[inline(always)]
fn mul_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn map2(a: [f32; 8], b: [f32; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    let mut out = [0.0; 8];
    for i in 0..8 {
        out[i] = f(a[i], b[i]);
    }
    out
}

impl GemmSimd for Portable {
    const MR: usize = 6;
    const NV: usize = 1;

    #[inline(never)]
    unsafe fn tile(self, tile: &micro::Tile) {
        // SAFETY: the caller's promise.
        unsafe { micro::tile(self, tile) }
    }

    #[inline(never)]
    unsafe fn small_product(self, product: &Product, _: bool) {
        // SAFETY: the caller's promise.
        unsafe { groups::product(self, groups::Single, product) }
    }
}

/// Operators on vectors, each by an expression.
macro_rules! operators {
    ($($name:ident($($x:ident),+) = $call:expr;)+) => {$(
        #[inline(always)]
        fn $name(self, $($x: Self::V),+) -> Self::V {
            $call
        }
    )+};
}

impl Simd for Portable {
    type V = [f32; 8];
    const N: usize = 8;

    operators! {
        add(a, b) = map2(a, b, |a, b| a + b);
        sub(a, b) = map2(a, b, |a, b| a - b);
        mul(a, b) = map2(a, b, |a, b| a * b);
        div(a, b) = map2(a, b, |a, b| a / b);
        max(a, b) = map2(a, b, |a, b| if a > b { a } else { b });
        min(a, b) = map2(a, b, |a, b| if a < b { a } else { b });
        sqrt(a) = a.map(f32::sqrt);
        abs(a) = a.map(f32::abs);
        copysign(a, b) = map2(a, b, f32::copysign);
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load_n(self, p: *const f32, n: usize) -> Self::V {
        if n == 8 {
            // SAFETY: the caller's promise.
            return unsafe { p.cast::<[f32; 8]>().read_unaligned() };
        }
        let mut v = [0.0; 8];
        for (i, lane) in v.iter_mut().enumerate().take(n) {
            // SAFETY: the caller's promise.
            *lane = unsafe { *p.add(i) };
        }
        v
    }
    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, v: Self::V, n: usize) {
        if n == 8 {
            // SAFETY: the caller's promise.
            return unsafe { p.cast::<[f32; 8]>().write_unaligned(v) };
        }
        for (i, lane) in v.iter().enumerate().take(n) {
            // SAFETY: the caller's promise.
            unsafe { *p.add(i) = *lane };
        }
    }
    #[inline(always)]
    fn prefetch(self, _: *const f32) {}
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        let mut out = [0.0; 8];
        for i in 0..8 {
            out[i] = mul_add(a[i], b[i], c[i]);
        }
        out
    }
    #[inline(always)]
    fn fnma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        let mut out = [0.0; 8];
        for i in 0..8 {
            out[i] = mul_add(-a[i], b[i], c[i]);
        }
        out
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        // Adding 1.5 * 2^23 rounds to an integer for |a| < 2^22, which is all that the kernels need, without a library call.
        const MAGIC: f32 = 12_582_912.0;
        a.map(|a| (a + MAGIC) - MAGIC)
    }
    #[inline(always)]
    fn ldexp(self, a: Self::V, n: Self::V) -> Self::V {
        map2(a, n, |a, n| {
            let n = n as i32;
            let half = n >> 1;
            let power = |e: i32| f32::from_bits(((e + 127) << 23) as u32);
            a * power(half) * power(n - half)
        })
    }
    #[inline(always)]
    fn gt(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V {
        let mut out = [0.0; 8];
        for i in 0..8 {
            out[i] = if a[i] > b[i] { x[i] } else { y[i] };
        }
        out
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    #[inline(always)]
    unsafe fn transpose(
        self,
        src: *const f32,
        src_stride: usize,
        rows: usize,
        cols: usize,
        dst: *mut f32,
        dst_stride: usize,
    ) {
        for c in 0..cols {
            let mut v = [0.0; 8];
            for (r, lane) in v.iter_mut().enumerate().take(rows) {
                // SAFETY: the caller's promise.
                *lane = unsafe { *src.add(r * src_stride + c) };
            }
            // SAFETY: the caller's promise.
            unsafe { self.store(dst.add(c * dst_stride), v) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{GemmSimd, Kernel, Simd};
    use crate::gemm::micro;
    use crate::groups::{self, Product};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx512(()))
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx2(()))
    }

    /// AVX-512; made by `run_avx512` only.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(());

    /// AVX2 and FMA; made by `run_avx2` only.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(());

    impl GemmSimd for Avx512 {
        const MR: usize = 14;
        const NV: usize = 2;

        #[inline(always)]
        unsafe fn tile(self, tile: &micro::Tile) {
            // SAFETY: the caller's promise, and the instruction set is there.
            unsafe { tile_avx512(self, tile) }
        }

        #[inline(always)]
        unsafe fn small_product(self, product: &Product, pairs: bool) {
            // SAFETY: the caller's promise, and the instruction set is there.
            unsafe { if pairs { product_pairs(self, product) } else { product_avx512(self, product) } }
        }

        #[inline(always)]
        unsafe fn round_along(self, src: &[f32], words: &mut [f32]) {
            // SAFETY: the caller's promise.
            unsafe { round_along(src, words) }
        }

        #[inline(always)]
        unsafe fn round_across(self, src: &[f32], n: usize, words: &mut [f32]) {
            // SAFETY: the caller's promise.
            unsafe { round_across(src, n, words) }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    #[inline(never)]
    unsafe fn product_avx512(s: Avx512, product: &Product) {
        // SAFETY: the caller's promise.
        unsafe { groups::product(s, groups::Single, product) }
    }

    /// Products of pairs of bfloat16 values.
    #[derive(Clone, Copy)]
    struct Pairs;

    impl groups::Step<Avx512> for Pairs {
        #[inline(always)]
        fn step(self, _: Avx512, a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: only `product_pairs` uses it, which has the instruction. The types are vectors of the same bits.
            unsafe {
                let [a, b] = [a, b].map(|x| std::mem::transmute::<__m512, __m512bh>(x));
                _mm512_dpbf16_ps(c, a, b)
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    #[inline(never)]
    unsafe fn product_pairs(s: Avx512, product: &Product) {
        // SAFETY: the caller's promise.
        unsafe { groups::product(s, Pairs, product) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    fn round_along(src: &[f32], words: &mut [f32]) {
        for (src, words) in src.chunks(32).zip(words.chunks_mut(16)) {
            let second = if src.len() == 32 { !0 } else { 0 };
            assert!(src.len() >= 16 && words.len() >= 8 && (second == 0 || words.len() == 16));
            // SAFETY: 16 or 32 floats to read, half as many words to write; the types are vectors of the same bits.
            unsafe {
                let a = _mm512_maskz_loadu_ps(!0, src.as_ptr());
                let b = _mm512_maskz_loadu_ps(second, src.as_ptr().wrapping_add(16));
                let halves = std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(b, a));
                _mm512_mask_storeu_ps(words.as_mut_ptr(), second | 0xFF, halves);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    fn round_across(src: &[f32], n: usize, words: &mut [f32]) {
        // Positions of an interleave of two vectors of 16 halves.
        let order = _mm512_set_epi16(
            31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3,
            18, 2, 17, 1, 16, 0,
        );
        for (rows, words) in src.chunks(2 * n).zip(words.chunks_exact_mut(n)) {
            let (low, high) = rows.split_at(n);
            for i in (0..n).step_by(16) {
                let high = if high.is_empty() { &[0.0; 16] } else { &high[i..i + 16] };
                // SAFETY: 16 floats to read of each, 16 to write; the types are vectors of the same bits.
                unsafe {
                    let a = _mm512_maskz_loadu_ps(!0, low[i..i + 16].as_ptr());
                    let b = _mm512_maskz_loadu_ps(!0, high.as_ptr());
                    let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a));
                    let words = words[i..i + 16].as_mut_ptr();
                    _mm512_mask_storeu_ps(
                        words,
                        !0,
                        _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, halves)),
                    );
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    #[inline(never)]
    unsafe fn tile_avx512(s: Avx512, tile: &micro::Tile) {
        // SAFETY: the caller's promise.
        unsafe { micro::tile(s, tile) }
    }

    #[target_feature(enable = "avx2,fma")]
    #[inline(never)]
    unsafe fn tile_avx2(s: Avx2, tile: &micro::Tile) {
        // SAFETY: the caller's promise.
        unsafe { micro::tile(s, tile) }
    }

    impl GemmSimd for Avx2 {
        const MR: usize = 6;
        const NV: usize = 2;

        #[inline(always)]
        unsafe fn tile(self, tile: &micro::Tile) {
            // SAFETY: the caller's promise, and the instruction set is there.
            unsafe { tile_avx2(self, tile) }
        }

        #[inline(always)]
        unsafe fn small_product(self, product: &Product, _: bool) {
            // SAFETY: the caller's promise, and the instruction set is there.
            unsafe { product_avx2(self, product) }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    #[inline(never)]
    unsafe fn product_avx2(s: Avx2, product: &Product) {
        // SAFETY: the caller's promise.
        unsafe { groups::product(s, groups::Single, product) }
    }

    // Whole loads and stores are written as masked ones with every lane set, which the compiler turns into plain ones: the plain intrinsics go
    // through `ptr::read_unaligned`, which in a build with debug assertions checks its arguments, and then no longer inlines.
    //
    // SAFETY of the intrinsics below: a value of the type exists only inside the `#[target_feature]` function that made it, so the
    // instruction set is there; for memory operations the caller promises the range.
    macro_rules! intrinsic {
        ($($call:tt)*) => {
            // SAFETY: see above.
            unsafe { $($call)* }
        };
    }

    /// Operators on vectors, each by an expression of intrinsics.
    macro_rules! operators {
        ($V:ty: $($name:ident($($x:ident),+) = $call:expr;)+) => {$(
            #[inline(always)]
            fn $name(self, $($x: $V),+) -> $V {
                intrinsic!($call)
            }
        )+};
    }

    #[inline(always)]
    fn mask16(n: usize) -> __mmask16 {
        ((1u32 << n) - 1) as __mmask16
    }

    impl Simd for Avx512 {
        type V = __m512;
        const N: usize = 16;

        operators! { __m512:
            add(a, b) = _mm512_add_ps(a, b);
            sub(a, b) = _mm512_sub_ps(a, b);
            mul(a, b) = _mm512_mul_ps(a, b);
            div(a, b) = _mm512_div_ps(a, b);
            fma(a, b, c) = _mm512_fmadd_ps(a, b, c);
            fnma(a, b, c) = _mm512_fnmadd_ps(a, b, c);
            max(a, b) = _mm512_max_ps(a, b);
            min(a, b) = _mm512_min_ps(a, b);
            sqrt(a) = _mm512_sqrt_ps(a);
            abs(a) = _mm512_abs_ps(a);
            // Ternary logic: bit from `b` where the mask (sign bit) is set, else from `a`.
            copysign(a, b) = _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xCA>(
                _mm512_set1_epi32(i32::MIN),
                _mm512_castps_si512(b),
                _mm512_castps_si512(a),
            ));
            round(a) = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
            ldexp(a, n) = _mm512_scalef_ps(a, n);
            gt(a, b, x, y) = _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), y, x);
        }

        #[inline(always)]
        fn splat(self, x: f32) -> __m512 {
            intrinsic!(_mm512_set1_ps(x))
        }
        #[inline(always)]
        unsafe fn load_n(self, p: *const f32, n: usize) -> __m512 {
            if n == 16 {
                intrinsic!(_mm512_maskz_loadu_ps(!0, p))
            } else {
                intrinsic!(_mm512_maskz_loadu_ps(mask16(n), p))
            }
        }
        #[inline(always)]
        unsafe fn store_n(self, p: *mut f32, v: __m512, n: usize) {
            if n == 16 {
                intrinsic!(_mm512_mask_storeu_ps(p, !0, v))
            } else {
                intrinsic!(_mm512_mask_storeu_ps(p, mask16(n), v))
            }
        }
        #[inline(always)]
        fn prefetch(self, p: *const f32) {
            intrinsic!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
        }
        #[inline(always)]
        fn sum(self, a: __m512) -> f32 {
            intrinsic!(_mm512_reduce_add_ps(a))
        }
        #[inline(always)]
        unsafe fn transpose(
            self,
            src: *const f32,
            src_stride: usize,
            rows: usize,
            cols: usize,
            dst: *mut f32,
            dst_stride: usize,
        ) {
            let mut r = [self.splat(0.0); 16];
            for i in 0..16 {
                if i < rows {
                    // SAFETY: the caller's promise.
                    r[i] = unsafe { self.load_n(src.add(i * src_stride), cols) };
                }
            }
            let r = transpose16(r);
            for (c, v) in r.into_iter().enumerate() {
                if c < cols {
                    // SAFETY: the caller's promise.
                    unsafe { self.store(dst.add(c * dst_stride), v) };
                }
            }
        }
    }

    /// Transposes 16 x 16 words. To be called where AVX-512 is enabled.
    #[inline(always)]
    pub(crate) fn transpose16(r: [__m512; 16]) -> [__m512; 16] {
        // Pairs of rows, then quads inside 128-bit lanes, then the lanes themselves.
        let mut t = r;
        for i in 0..8 {
            t[2 * i] = intrinsic!(_mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]));
            t[2 * i + 1] = intrinsic!(_mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]));
        }
        let mut q = t;
        for i in 0..4 {
            let b = 4 * i;
            q[b] = intrinsic!(_mm512_castpd_ps(_mm512_unpacklo_pd(
                _mm512_castps_pd(t[b]),
                _mm512_castps_pd(t[b + 2])
            )));
            q[b + 1] = intrinsic!(_mm512_castpd_ps(_mm512_unpackhi_pd(
                _mm512_castps_pd(t[b]),
                _mm512_castps_pd(t[b + 2])
            )));
            q[b + 2] = intrinsic!(_mm512_castpd_ps(_mm512_unpacklo_pd(
                _mm512_castps_pd(t[b + 1]),
                _mm512_castps_pd(t[b + 3])
            )));
            q[b + 3] = intrinsic!(_mm512_castpd_ps(_mm512_unpackhi_pd(
                _mm512_castps_pd(t[b + 1]),
                _mm512_castps_pd(t[b + 3])
            )));
        }
        let mut out = q;
        for j in 0..4 {
            let (a, b, c, d) = (q[j], q[4 + j], q[8 + j], q[12 + j]);
            let ab_even = intrinsic!(_mm512_shuffle_f32x4::<0x88>(a, b));
            let ab_odd = intrinsic!(_mm512_shuffle_f32x4::<0xDD>(a, b));
            let cd_even = intrinsic!(_mm512_shuffle_f32x4::<0x88>(c, d));
            let cd_odd = intrinsic!(_mm512_shuffle_f32x4::<0xDD>(c, d));
            out[j] = intrinsic!(_mm512_shuffle_f32x4::<0x88>(ab_even, cd_even));
            out[4 + j] = intrinsic!(_mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd));
            out[8 + j] = intrinsic!(_mm512_shuffle_f32x4::<0xDD>(ab_even, cd_even));
            out[12 + j] = intrinsic!(_mm512_shuffle_f32x4::<0xDD>(ab_odd, cd_odd));
        }
        out
    }

    #[inline(always)]
    fn mask8(n: usize) -> __m256i {
        static LANES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: `n <= 8`, so eight entries from `8 - n` are inside the table.
        unsafe { _mm256_lddqu_si256(LANES.as_ptr().wrapping_add(8 - n).cast()) }
    }

    impl Simd for Avx2 {
        type V = __m256;
        const N: usize = 8;

        operators! { __m256:
            add(a, b) = _mm256_add_ps(a, b);
            sub(a, b) = _mm256_sub_ps(a, b);
            mul(a, b) = _mm256_mul_ps(a, b);
            div(a, b) = _mm256_div_ps(a, b);
            fma(a, b, c) = _mm256_fmadd_ps(a, b, c);
            fnma(a, b, c) = _mm256_fnmadd_ps(a, b, c);
            max(a, b) = _mm256_max_ps(a, b);
            min(a, b) = _mm256_min_ps(a, b);
            sqrt(a) = _mm256_sqrt_ps(a);
            abs(a) = _mm256_andnot_ps(_mm256_set1_ps(-0.0), a);
            copysign(a, b) = _mm256_or_ps(
                _mm256_andnot_ps(_mm256_set1_ps(-0.0), a),
                _mm256_and_ps(_mm256_set1_ps(-0.0), b),
            );
            round(a) = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
            // In two halves, because 2^n alone may leave the range of f32 where the product does not.
            ldexp(a, n) = {
                let n = _mm256_cvtps_epi32(n);
                let half = _mm256_srai_epi32::<1>(n);
                let rest = _mm256_sub_epi32(n, half);
                let bias = _mm256_set1_epi32(127);
                let p = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias)));
                let q = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(rest, bias)));
                _mm256_mul_ps(_mm256_mul_ps(a, p), q)
            };
            gt(a, b, x, y) = _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b));
        }

        #[inline(always)]
        fn splat(self, x: f32) -> __m256 {
            intrinsic!(_mm256_set1_ps(x))
        }
        #[inline(always)]
        unsafe fn load_n(self, p: *const f32, n: usize) -> __m256 {
            if n == 8 {
                intrinsic!(_mm256_maskload_ps(p, _mm256_set1_epi32(-1)))
            } else {
                intrinsic!(_mm256_maskload_ps(p, mask8(n)))
            }
        }
        #[inline(always)]
        unsafe fn store_n(self, p: *mut f32, v: __m256, n: usize) {
            if n == 8 {
                intrinsic!(_mm256_maskstore_ps(p, _mm256_set1_epi32(-1), v))
            } else {
                intrinsic!(_mm256_maskstore_ps(p, mask8(n), v))
            }
        }
        #[inline(always)]
        fn prefetch(self, p: *const f32) {
            intrinsic!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
        }
        #[inline(always)]
        fn sum(self, a: __m256) -> f32 {
            intrinsic!({
                let q = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let d = _mm_add_ps(q, _mm_movehl_ps(q, q));
                _mm_cvtss_f32(_mm_add_ss(d, _mm_shuffle_ps::<1>(d, d)))
            })
        }
        #[inline(always)]
        unsafe fn transpose(
            self,
            src: *const f32,
            src_stride: usize,
            rows: usize,
            cols: usize,
            dst: *mut f32,
            dst_stride: usize,
        ) {
            let mut r = [self.splat(0.0); 8];
            for i in 0..8 {
                if i < rows {
                    // SAFETY: the caller's promise.
                    r[i] = unsafe { self.load_n(src.add(i * src_stride), cols) };
                }
            }
            let mut t = r;
            for i in 0..4 {
                t[2 * i] = intrinsic!(_mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]));
                t[2 * i + 1] = intrinsic!(_mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]));
            }
            let mut q = t;
            for i in 0..2 {
                let b = 4 * i;
                q[b] = intrinsic!(_mm256_shuffle_ps::<0x44>(t[b], t[b + 2]));
                q[b + 1] = intrinsic!(_mm256_shuffle_ps::<0xEE>(t[b], t[b + 2]));
                q[b + 2] = intrinsic!(_mm256_shuffle_ps::<0x44>(t[b + 1], t[b + 3]));
                q[b + 3] = intrinsic!(_mm256_shuffle_ps::<0xEE>(t[b + 1], t[b + 3]));
            }
            for c in 0..8 {
                if c < cols {
                    let v = if c < 4 {
                        intrinsic!(_mm256_permute2f128_ps::<0x20>(q[c], q[4 + c]))
                    } else {
                        intrinsic!(_mm256_permute2f128_ps::<0x31>(q[c - 4], q[c]))
                    };
                    // SAFETY: the caller's promise.
                    unsafe { self.store(dst.add(c * dst_stride), v) };
                }
            }
        }
    }
}
