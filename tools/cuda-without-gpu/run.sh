#!/bin/sh
# Runs a program "on CUDA" on a machine without a GPU; README.md beside this file says how and what for.
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
# Tests ask whether the log can tell them something.
export HRM_WITHOUT_GPU=1
exec "$@"
