//! What multiplies packed tiles: AMX, AVX512-BF16, or plain arithmetic.

use super::{BLOCK, TILE, WORDS};
use crate::gemm::Store;
use std::sync::OnceLock;

/// How bfloat16 products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bf16Engine {
    /// Plain arithmetic on rounded values; slow.
    Portable,
    /// Dot products of pairs in AVX-512 vectors.
    Avx512Bf16,
    /// Tiles (Advanced Matrix Extensions).
    Amx,
}

/// Where a block of results goes.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) data: *mut f32,
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) store: Store,
}

/// While it lives, the thread's tile registers are set up.
pub(super) struct Tiles(#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] Bf16Engine);

impl Drop for Tiles {
    fn drop(&mut self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self.0 == Bf16Engine::Amx {
            amx::release();
        }
    }
}

impl Bf16Engine {
    /// The fastest engine of this machine, found once. `HRM_KERNELS_BF16` = `portable`, `avx512bf16` or `amx` asks for another one.
    pub fn best() -> Bf16Engine {
        #[cfg(test)]
        if let Some(engine) = crate::testing::ENGINE.get() {
            return engine;
        }
        static BEST: OnceLock<Bf16Engine> = OnceLock::new();
        *BEST.get_or_init(|| {
            let available = Bf16Engine::available();
            let asked = std::env::var("HRM_KERNELS_BF16").ok().map(|name| name.to_lowercase());
            let asked = available.iter().find(|engine| asked.as_deref() == Some(engine.name()));
            *asked.unwrap_or(&available[available.len() - 1])
        })
    }

    /// What this machine can run, slowest first.
    pub fn available() -> Vec<Bf16Engine> {
        #[allow(unused_mut)]
        let mut found = vec![Bf16Engine::Portable];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
            found.push(Bf16Engine::Avx512Bf16);
        }
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if amx::available() {
            found.push(Bf16Engine::Amx);
        }
        found
    }

    /// Lower-case name: `portable`, `avx512bf16`, `amx`.
    pub fn name(self) -> &'static str {
        match self {
            Bf16Engine::Portable => "portable",
            Bf16Engine::Avx512Bf16 => "avx512bf16",
            Bf16Engine::Amx => "amx",
        }
    }

    /// Prepares this thread for [`Bf16Engine::block`].
    pub(super) fn enter(self) -> Tiles {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self == Bf16Engine::Amx {
            amx::configure();
        }
        Tiles(self)
    }

    /// Two by two tiles of results from `tiles` tiles of reduction.
    ///
    /// # Safety
    /// Operands are readable for `tiles` tiles, the target for its rows and columns; the guard of [`Bf16Engine::enter`] lives.
    pub(super) unsafe fn block(self, a: [*const f32; 2], b: [*const f32; 2], tiles: usize, to: Target) {
        // SAFETY: the caller's promise; the engine is one of `available`.
        unsafe {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            if self == Bf16Engine::Amx && (to.rows, to.cols) == (BLOCK, BLOCK) {
                return amx::block(a, b, tiles, to.data, to.stride, to.store == Store::Add);
            }
            #[cfg(target_arch = "x86_64")]
            if self == Bf16Engine::Avx512Bf16 && (to.rows, to.cols) == (BLOCK, BLOCK) {
                return vector::block(a, b, tiles, to.data, to.stride, to.store == Store::Add);
            }
            // A block at the edge goes through memory. It starts from what the output holds, as a whole one does: the same bits.
            let mut whole = [0.0f32; BLOCK * BLOCK];
            let add = to.store == Store::Add;
            if add {
                for row in 0..to.rows {
                    let out = std::slice::from_raw_parts(to.data.add(row * to.stride), to.cols);
                    whole[row * BLOCK..][..to.cols].copy_from_slice(out);
                }
            }
            match self {
                #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
                Bf16Engine::Amx => amx::block(a, b, tiles, whole.as_mut_ptr(), BLOCK, add),
                #[cfg(target_arch = "x86_64")]
                Bf16Engine::Avx512Bf16 => vector::block(a, b, tiles, whole.as_mut_ptr(), BLOCK, add),
                _ => portable(a, b, tiles, &mut whole),
            }
            for row in 0..to.rows {
                let out = std::slice::from_raw_parts_mut(to.data.add(row * to.stride), to.cols);
                out.copy_from_slice(&whole[row * BLOCK..][..to.cols]);
            }
        }
    }
}

/// Products of pairs in plain arithmetic.
unsafe fn portable(a: [*const f32; 2], b: [*const f32; 2], tiles: usize, out: &mut [f32; BLOCK * BLOCK]) {
    let even = |x: f32| f32::from_bits(x.to_bits() << 16);
    let odd = |x: f32| f32::from_bits(x.to_bits() & 0xFFFF_0000);
    for (row, out) in out.chunks_exact_mut(BLOCK).enumerate() {
        for (half, out) in out.chunks_exact_mut(TILE).enumerate() {
            for tile in 0..tiles {
                for pair in 0..TILE {
                    // SAFETY: the caller's promise.
                    let (x, y) = unsafe {
                        let a = *a[row / TILE].add(tile * WORDS + row % TILE * TILE + pair);
                        (a, &*b[half].add(tile * WORDS + pair * TILE).cast::<[f32; TILE]>())
                    };
                    for (out, y) in out.iter_mut().zip(y) {
                        *out += even(x) * even(*y) + odd(x) * odd(*y);
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod vector {
    use super::{TILE, WORDS};
    use std::arch::x86_64::*;

    /// Rows of results in registers at a time.
    const ROWS: usize = 8;

    /// A block in vectors.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn block(
        a: [*const f32; 2],
        b: [*const f32; 2],
        tiles: usize,
        out: *mut f32,
        stride: usize,
        add: bool,
    ) {
        for half in 0..2 * TILE / ROWS {
            let first = half * ROWS;
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            for pair in 0..tiles * TILE {
                // SAFETY: the caller's promise: `tiles` tiles of both operands. The types are vectors of the same bits.
                unsafe {
                    let right = [
                        std::mem::transmute::<__m512, __m512bh>(_mm512_maskz_loadu_ps(
                            !0,
                            b[0].wrapping_add(pair * TILE),
                        )),
                        std::mem::transmute::<__m512, __m512bh>(_mm512_maskz_loadu_ps(
                            !0,
                            b[1].wrapping_add(pair * TILE),
                        )),
                    ];
                    let left = a[first / TILE]
                        .wrapping_add(pair / TILE * WORDS + first % TILE * TILE + pair % TILE)
                        .cast::<[f32; (ROWS - 1) * TILE + 1]>();
                    let left = &*left;
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let x = std::mem::transmute::<__m512, __m512bh>(_mm512_set1_ps(left[row * TILE]));
                        sums[0] = _mm512_dpbf16_ps(sums[0], x, right[0]);
                        sums[1] = _mm512_dpbf16_ps(sums[1], x, right[1]);
                    }
                }
            }
            for (row, sums) in sums.into_iter().enumerate() {
                for (i, mut sum) in sums.into_iter().enumerate() {
                    let p = out.wrapping_add((first + row) * stride + i * TILE);
                    // SAFETY: the caller's promise: a block of room.
                    unsafe {
                        if add {
                            sum = _mm512_add_ps(_mm512_maskz_loadu_ps(!0, p), sum);
                        }
                        _mm512_mask_storeu_ps(p, !0, sum);
                    }
                }
            }
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use super::TILE;
    use std::arch::asm;
    use std::sync::OnceLock;

    /// Whether the processor has tiles with bfloat16 products and the kernel lets us use them; asks for it once.
    pub(super) fn available() -> bool {
        static AVAILABLE: OnceLock<bool> = OnceLock::new();
        *AVAILABLE.get_or_init(|| {
            if cfg!(miri) {
                // It has no system calls by hand.
                return false;
            }
            use std::arch::x86_64::{__cpuid, __cpuid_count};
            // Leaf 7: bit 22 = AMX-BF16, bit 24 = AMX-TILE; leaf 1, bit 27 of ecx = the system uses XSAVE.
            let known = __cpuid(0).eax >= 7 && __cpuid(1).ecx & 1 << 27 != 0;
            let tiles = 1 << 22 | 1 << 24;
            if !known || __cpuid_count(7, 0).edx & tiles != tiles {
                return false;
            }
            const ARCH_PRCTL: isize = 158;
            const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
            const XTILEDATA: usize = 18;
            let result: isize;
            // SAFETY: a system call that only grants this process a register state; it changes rax, rcx and r11.
            unsafe {
                asm!(
                    "syscall",
                    inlateout("rax") ARCH_PRCTL => result,
                    in("rdi") ARCH_REQ_XCOMP_PERM,
                    in("rsi") XTILEDATA,
                    lateout("rcx") _,
                    lateout("r11") _,
                    options(nostack),
                );
            }
            result == 0
        })
    }

    /// The tile configuration: palette 1, eight tiles of 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        bytes: [u16; 16],
        rows: [u8; 16],
    }

    static CONFIG: Config = Config {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    pub(super) fn configure() {
        // SAFETY: the engine is only chosen where `available` holds; the configuration is valid.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, preserves_flags, readonly))
        };
    }

    pub(super) fn release() {
        // SAFETY: as above.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) };
    }

    /// A block in tiles: results in tiles 0 to 3, A in 4 and 5, B in 6 and 7.
    ///
    /// # Safety
    /// Tiles are configured; operands readable for `tiles > 0` tiles, `out` for 32 rows of 32 floats.
    pub(super) unsafe fn block(
        a: [*const f32; 2],
        b: [*const f32; 2],
        tiles: usize,
        out: *mut f32,
        stride: usize,
        add: bool,
    ) {
        let stride = stride * 4;
        let lower = out.wrapping_byte_add(stride * TILE);
        // SAFETY: the caller's promise. Tile registers belong to this code alone.
        unsafe {
            if add {
                asm!(
                    "tileloadd tmm0, [{out} + {stride}]",
                    "tileloadd tmm1, [{out} + {stride} + 64]",
                    "tileloadd tmm2, [{lower} + {stride}]",
                    "tileloadd tmm3, [{lower} + {stride} + 64]",
                    out = in(reg) out,
                    lower = in(reg) lower,
                    stride = in(reg) stride,
                    options(nostack, preserves_flags, readonly),
                );
            } else {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    options(nostack, preserves_flags, nomem)
                );
            }
            asm!(
                // Each step also asks for two of the result's 32 rows, for writing; a prefetch past them does no harm.
                "2:",
                "tileloadd tmm6, [{b0} + {row}]",
                "tileloadd tmm4, [{a0} + {row}]",
                "prefetchw [{c}]",
                "prefetchw [{c} + 64]",
                "add {c}, {stride}",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b1} + {row}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a1} + {row}]",
                "prefetchw [{c}]",
                "prefetchw [{c} + 64]",
                "add {c}, {stride}",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a0}, 1024",
                "add {a1}, 1024",
                "add {b0}, 1024",
                "add {b1}, 1024",
                "dec {tiles}",
                "jnz 2b",
                a0 = inout(reg) a[0] => _,
                a1 = inout(reg) a[1] => _,
                b0 = inout(reg) b[0] => _,
                b1 = inout(reg) b[1] => _,
                tiles = inout(reg) tiles => _,
                c = inout(reg) out => _,
                stride = in(reg) stride,
                row = in(reg) 64usize,
                options(nostack, readonly),
            );
            asm!(
                "tilestored [{out} + {stride}], tmm0",
                "tilestored [{out} + {stride} + 64], tmm1",
                "tilestored [{lower} + {stride}], tmm2",
                "tilestored [{lower} + {stride} + 64], tmm3",
                out = in(reg) out,
                lower = in(reg) lower,
                stride = in(reg) stride,
                options(nostack, preserves_flags),
            );
        }
    }
}
