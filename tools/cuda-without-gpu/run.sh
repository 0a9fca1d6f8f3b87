#!/bin/sh
# Runs a program "on CUDA" on a machine without a GPU: kernels are compiled by NVRTC, but not run, so results are noise.
#
#   cargo build -p hrm-cli --features cuda
#   scripts/cuda-without-gpu/run.sh target/debug/hrm warmup --backend cuda --config configs/sudoku-extreme-1k.toml
#
# To find kernels that do not compile; to measure the host's part of a step; and to compile in advance for a machine whose GPU time
# is short: what is compiled lies in target/kernels-*, which can be carried there (a cubecl.toml names it, see docs/backends.md).
#
# With --compute, kernels do run: in the place of NVRTC, g++ compiles them for the CPU (nvrtc.cpp), so that tests test them. Only the
# order of sums in products and the last bits of fast functions are not a GPU's.
#
#   scripts/cuda-without-gpu/run.sh --compute target/debug/deps/ops-HASH cuda:: --test-threads 1
#
# The device has no TMA then, and kernels with inline PTX (mma instructions) do not compile: products on tensor cores take the kernel
# that HRM_MATMUL_KERNEL names, by default simple-cyclic-cmma. The program starts in a folder of its own, so that kernels of both
# kinds do not mix: name files by full paths. HRM_FAKE_CUDA_BACKWARDS=1 runs the threads of a block in the other order, which shows
# where a barrier is missing.
#
# In both modes HRM_FAKE_CUDA_LOG=FILE collects a line for each kernel and each product of cuBLASLt (cublaslt.cpp), with its stream.
#
# Needs a C++ compiler and, without --compute, Python with pip, and unzip: it fetches NVIDIA's NVRTC and headers (about 130 MB) into
# target/ once.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${CARGO_TARGET_DIR:-$here/../../target}/cuda-without-gpu
compute=
if [ "${1-}" = --compute ]; then
    compute=1
    program=$(realpath "$2")
    shift 2
    set -- "$program" "$@"
    mkdir -p "$folder"
    folder=$(realpath "$folder")
fi
if [ -z "$compute" ] && [ ! -e "$folder/cuda/include/cuda_bf16.h" ]; then
    mkdir -p "$folder/wheels"
    python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$folder/wheels" \
        --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux_2_17_x86_64 \
        "nvidia-cuda-nvrtc==13.0.*" "nvidia-cuda-runtime==13.0.*" "nvidia-cuda-cccl==13.0.*" "nvidia-cuda-crt==13.0.*"
    for wheel in "$folder"/wheels/*.whl; do unzip -qo "$wheel" -d "$folder/wheels"; done
    rm -rf "$folder/cuda"
    mv "$folder/wheels/nvidia/cu13" "$folder/cuda"
    ln -sf libnvrtc.so.13 "$folder/cuda/lib/libnvrtc.so"
    rm -rf "$folder/wheels"
fi
# Not also as libcuda.so.1: NVRTC would find that, and calls more of it than there is.
if [ -z "$compute" ]; then
    mkdir -p "$folder/driver"
    cc -shared -fPIC -o "$folder/driver/libcuda.so" "$here/driver.c" "$here/threads.c"
    c++ -O2 -shared -fPIC -o "$folder/driver/libcublasLt.so" "$here/cublaslt.cpp"
    export CUDA_PATH="$folder/cuda"
    export LD_LIBRARY_PATH="$folder/driver:$folder/cuda/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
else
    # By content, since what other headers made must not be found. CubeCL keeps kernels too, where the nearest Cargo.toml is.
    folder=$folder/compute/$(cat "$here"/*.c* "$here"/device/* | cksum | cut -d' ' -f1)
    if [ ! -e "$folder/Cargo.toml" ]; then
        mkdir -p "$folder/kernels"
        cc -O2 -DCOMPUTE=1 -shared -fPIC -o "$folder/libcuda.so" "$here/driver.c" "$here/threads.c" -ldl -lpthread
        c++ -O2 -shared -fPIC "-DHEADERS=\"$here/device\"" "-DRESULTS=\"$folder/kernels\"" -o "$folder/libnvrtc.so" "$here/nvrtc.cpp"
        c++ -O3 -march=native -DCOMPUTE=1 -shared -fPIC -o "$folder/libcublasLt.so" "$here/cublaslt.cpp"
        touch "$folder/Cargo.toml"
    fi
    export CUDA_PATH="$here/device" HRM_MATMUL_KERNEL="${HRM_MATMUL_KERNEL:-simple-cyclic-cmma}"
    export LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    cd "$folder"
fi
exec "$@"
