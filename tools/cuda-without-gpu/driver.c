/* A CUDA driver without a GPU: libcuda.so as far as CubeCL calls it. Memory is the host's, copies copy, kernels do nothing.
   Programs run to their end on a device that looks like an H200; what they compute is noise, but every kernel that they launch has
   been compiled by NVRTC before. With COMPUTE, kernels that nvrtc.cpp has compiled run on the CPU, one after the other, and the
   device is of an older kind, for which CubeCL writes no TMA. See run.sh. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "device/threads.h"

typedef int result;
typedef uint64_t pointer;

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, INVALID_IMAGE = 200, NOT_FOUND = 500 };
#ifndef COMPUTE
enum { COMPUTE = 0 };
#endif

result cuInit(unsigned flags) { return SUCCESS; }
result cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
result cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
result cuDeviceGet(int *device, int index) { *device = index; return SUCCESS; }
result cuDeviceGetName(char *name, int size, int device) { strncpy(name, "no GPU", size); return SUCCESS; }
result cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 150ull << 30; return SUCCESS; }

/* CUdevice_attribute: what an H200 says. */
result cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 1: case 2: case 3: *value = 1024; break; /* threads of a block, its x and y */
    case 4: *value = 64; break;                   /* its z */
    case 5: *value = 2147483647; break;           /* blocks, x */
    case 6: case 7: *value = 65535; break;        /* y and z */
    case 8: *value = 49152; break;                /* shared memory of a block */
    case 97: *value = COMPUTE ? MAX_SHARED : 232448; break; /* the same, if asked for */
    case 10: *value = 32; break;                  /* warp */
    case 16: *value = 132; break;                 /* multiprocessors */
    case 75: *value = COMPUTE ? 8 : 9; break;     /* compute capability */
    case 76: *value = 0; break;
    default: *value = 1;
    }
    return SUCCESS;
}
result cuDeviceCanAccessPeer(int *can, int a, int b) { *can = 0; return SUCCESS; }
result cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)1; return SUCCESS; }
result cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
result cuCtxSetCurrent(void *context) { return SUCCESS; }
result cuCtxGetCurrent(void **context) { *context = (void *)1; return SUCCESS; }
result cuCtxSynchronize(void) { return SUCCESS; }

result cuStreamCreate(void **stream, unsigned flags) { static intptr_t last; *stream = (void *)++last; return SUCCESS; }
result cuStreamDestroy_v2(void *stream) { return SUCCESS; }
result cuStreamSynchronize(void *stream) { return SUCCESS; }
result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return SUCCESS; }
result cuEventCreate(struct timespec **event, unsigned flags) { *event = calloc(1, sizeof **event); return SUCCESS; }
result cuEventDestroy_v2(struct timespec *event) { free(event); return SUCCESS; }
result cuEventRecord(struct timespec *event, void *stream) { clock_gettime(CLOCK_MONOTONIC, event); return SUCCESS; }
result cuEventSynchronize(void *event) { return SUCCESS; }
result cuEventElapsedTime_v2(float *ms, struct timespec *start, struct timespec *end) {
    *ms = (end->tv_sec - start->tv_sec) * 1e3 + (end->tv_nsec - start->tv_nsec) * 1e-6;
    return SUCCESS;
}

/* What is read before it is written shall show: all bits set are NaN. Only the first part of large pages, to leave the rest unused. */
result cuMemAlloc_v2(pointer *p, size_t n) {
    *p = (pointer)(COMPUTE ? aligned_alloc(512, (n + 511) / 512 * 512) : calloc(1, n));
    if (COMPUTE && *p) memset((void *)*p, 0xFF, n < 64 << 20 ? n : 64 << 20);
    return *p ? SUCCESS : OUT_OF_MEMORY;
}
result cuMemFree_v2(pointer p) { free((void *)p); return SUCCESS; }
result cuMemAllocAsync(pointer *p, size_t n, void *stream) { return cuMemAlloc_v2(p, n); }
result cuMemFreeAsync(pointer p, void *stream) { return cuMemFree_v2(p); }
result cuMemAllocHost_v2(void **p, size_t n) { *p = calloc(1, n); return *p ? SUCCESS : OUT_OF_MEMORY; }
result cuMemFreeHost(void *p) { free(p); return SUCCESS; }
static void write_down(const char *what, const char *name, void *stream);
result cuMemcpyHtoDAsync_v2(pointer to, const void *from, size_t n, void *stream) {
    char bytes[32];
    snprintf(bytes, sizeof bytes, "%zu", n);
    write_down("upload", bytes, stream);
    memcpy((void *)to, from, n);
    return SUCCESS;
}
result cuMemcpyDtoHAsync_v2(void *to, pointer from, size_t n, void *stream) { memcpy(to, (void *)from, n); return SUCCESS; }
result cuMemcpyDtoDAsync_v2(pointer to, pointer from, size_t n, void *stream) { memcpy((void *)to, (void *)from, n); return SUCCESS; }

struct copy_2d {
    struct end {
        size_t x, y;
        int kind; /* 1: the host's */
        void *host;
        pointer device;
        void *array;
        size_t pitch;
    } from, to;
    size_t width, height;
};
static char *address(const struct end *end) {
    return (end->kind == 1 ? (char *)end->host : (char *)end->device) + end->y * end->pitch + end->x;
}
result cuMemcpy2DAsync_v2(const struct copy_2d *copy, void *stream) {
    char *from = address(&copy->from), *to = address(&copy->to);
    for (size_t row = 0; row < copy->height; row++) memcpy(to + row * copy->to.pitch, from + row * copy->from.pitch, copy->width);
    return SUCCESS;
}

/* One line for each kernel and each copy from the host, if HRM_FAKE_CUDA_LOG names a file. */
static void write_down(const char *what, const char *name, void *stream) {
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    static FILE *log;
    const char *path = getenv("HRM_FAKE_CUDA_LOG");
    if (!path) return;
    pthread_mutex_lock(&one_at_a_time);
    if (!log && (log = fopen(path, "a"))) setvbuf(log, NULL, _IOLBF, BUFSIZ);
    if (log) fprintf(log, "%s %s stream %p\n", what, name, stream);
    pthread_mutex_unlock(&one_at_a_time);
}

struct function {
    char *name;
    void (*launch)(const struct launch *launch);
};

/* What nvrtc.cpp says in the place of PTX. Anything else comes from a folder of kernels for GPUs. */
result cuModuleLoadData(void **module, const char *image) {
    *module = (void *)1;
    if (!COMPUTE) return SUCCESS;
    if (strncmp(image, "g++ ", 4) != 0) return INVALID_IMAGE;
    *module = dlopen(image + 4, RTLD_NOW | RTLD_LOCAL);
    if (!*module) fprintf(stderr, "%s\n", dlerror());
    return *module ? SUCCESS : NOT_FOUND;
}
result cuModuleUnload(void *module) { return SUCCESS; }
result cuModuleGetFunction(struct function **function, void *module, const char *name) {
    *function = malloc(sizeof **function);
    **function = (struct function){strdup(name), COMPUTE ? dlsym(module, "launch_kernel") : NULL};
    return COMPUTE && !(*function)->launch ? NOT_FOUND : SUCCESS;
}
result cuFuncSetAttribute(void *function, int attribute, int value) { return SUCCESS; }
result cuTensorMapEncodeTiled(void *map, int type, unsigned rank, void *address, const pointer *shape, const pointer *strides,
                              const unsigned *box, const unsigned *steps, int interleave, int swizzle, int l2, int fill) { return SUCCESS; }
result cuLaunchKernel(struct function *function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *stream, void **arguments, void **extra) {
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&one_at_a_time);
    write_down("kernel", function->name, stream);
    if (COMPUTE) function->launch(&(struct launch){{x, y, z}, {bx, by, bz}, shared, arguments, &fibers});
    pthread_mutex_unlock(&one_at_a_time);
    return SUCCESS;
}
struct configuration {
    unsigned grid[3], block[3], shared;
    void *stream;
};
result cuLaunchKernelEx(const struct configuration *it, struct function *function, void **arguments, void **extra) {
    return cuLaunchKernel(function, it->grid[0], it->grid[1], it->grid[2], it->block[0], it->block[1], it->block[2], it->shared,
                          it->stream, arguments, extra);
}
result cuGetErrorName(int error, const char **text) { *text = "error"; return SUCCESS; }
result cuGetErrorString(int error, const char **text) { *text = "an error of the driver without a GPU"; return SUCCESS; }
