/* Follows the source of a kernel: runs all blocks of a launch. */
#pragma once

alignas(1024) uint8 dynamic_shared_mem[MAX_SHARED + 1024];

template <int... I> struct indices {};

template <class... P> inline __attribute__((always_inline)) void call(void (*kernel)(P...)) {
    [&]<int... I>(indices<I...>) { kernel(*(P *)now.arguments[I]...); }(indices<__integer_pack(sizeof...(P))...>());
}

template <auto kernel> void run_thread(unsigned thread) {
    threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y};
    call(kernel);
}

template <auto kernel> void run_threads() {
    for (threadIdx.z = 0; threadIdx.z < blockDim.z; threadIdx.z++)
        for (threadIdx.y = 0; threadIdx.y < blockDim.y; threadIdx.y++)
            for (threadIdx.x = 0; threadIdx.x < blockDim.x; threadIdx.x++) call(kernel);
}

/* Shared memory begins as NaN, and so does what lies behind it, which has to stay so. */
template <auto kernel, bool threads_meet> void run_blocks(const launch &launch) {
    now = launch;
    gridDim = {now.grid[0], now.grid[1], now.grid[2]};
    blockDim = {now.block[0], now.block[1], now.block[2]};
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
                uint8 *end = dynamic_shared_mem + now.shared;
                if (now.shared) memset(dynamic_shared_mem, 0xFF, now.shared + 1024);
                if (threads_meet)
                    now.threads->run(blockDim.x * blockDim.y * blockDim.z, run_thread<kernel>);
                else
                    run_threads<kernel>();
                for (int byte = 0; now.shared && byte < 1024; byte++)
                    if (end[byte] != 0xFF) {
                        fprintf(stderr, "kernel: writes behind its %u bytes of shared memory\n", now.shared);
                        abort();
                    }
            }
}
